import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';

const LOOP_DELAY_RESOLUTION_MS = 10;

/**
 * Metrics in Prometheus' form, those of the process among them: memory, garbage collection, and the delay of the event loop
 * (nodejs_eventloop_lag_*). Counting is done by plain numbers elsewhere; they are read when the metrics are asked for.
 */
export class Meters {
  readonly #registry = new Registry();

  constructor() {
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: LOOP_DELAY_RESOLUTION_MS });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }

  counter(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  /** @param known labels that are there from the start */
  labelled(
    name: string,
    help: string,
    label: string,
    read: () => Readonly<Record<string, number>>,
    known: object = {},
  ): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const key of Object.keys(known)) this.inc({ [label]: key }, 0);
        for (const [key, value] of Object.entries(read())) this.inc({ [label]: key }, value);
      },
    });
  }

  close(): void {
    this.#registry.clear();
  }
}
