// The shape of `throughput` and `latency` for servers that speak MQTT: 50 publishers, each with a subscriber of its own.
import type { Job, Outcome } from './job.ts';
import { measureLatency } from './latency.ts';
import { MqttLink } from './mqtt-link.ts';
import { MqttPair } from './mqtt-pair.ts';
import { MqttTraffic } from './mqtt-traffic.ts';
import { saturate } from './saturate.ts';
import { inParallel } from './setup.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;

async function connected({ endpoint, window }: Job): Promise<MqttTraffic> {
  const pairs = await inParallel(PAIRS, SETUP_PARALLEL, async (index) => {
    const topic = `bench/device-${index}`;
    const subscriber = await MqttLink.open(endpoint, index, `device-${index}`);
    await subscriber.subscribe(topic);
    const publisher = await MqttLink.open(endpoint, index, `user-${index}`);
    return new MqttPair(publisher, subscriber, topic, PAYLOAD_SIZE, window);
  });
  return new MqttTraffic(pairs);
}

export async function mqttThroughput(job: Job): Promise<Outcome> {
  return saturate(job, await connected(job));
}

export async function mqttLatency(job: Job): Promise<Outcome> {
  return measureLatency(job, await connected(job), false);
}

export async function mqttLatency80(job: Job): Promise<Outcome> {
  return measureLatency(job, await connected(job), true);
}
