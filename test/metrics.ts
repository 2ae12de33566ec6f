// What a server says of itself on the port for operators.

import assert from 'node:assert/strict';

/** All metrics, by name and labels as they are written. On a connection of its own: one that is kept would count as open. */
export async function metrics(of: { readonly adminPort: number }): Promise<Map<string, number>> {
  const url = `http://127.0.0.1:${of.adminPort}/metrics`;
  const text = await (await fetch(url, { headers: { connection: 'close' } })).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

/** The value of one that is there: `hawser_sessions`, `hawser_closed_total{reason="gone"}`. */
export async function metric(of: { readonly adminPort: number }, name: string): Promise<number> {
  const value = (await metrics(of)).get(name);
  assert.ok(value !== undefined, `there is no metric ${name}`);
  return value;
}

/** How many connections it ended for this reason. */
export function closedFor(of: { readonly adminPort: number }, reason: string): Promise<number> {
  return metric(of, `hawser_closed_total{reason="${reason}"}`);
}
