import { parse } from 'csv-parse';

/** A line of a file of devices; what is not given is empty. */
export interface DeviceLine {
  readonly id: string;
  readonly secret: string;
  readonly code: string;
}

const COLUMNS = ['id', 'secret', 'code'] as const;

/** Reads devices, one a line, from CSV: with a head that names the columns, or in the order id, secret, code. */
export async function readDevices(input: NodeJS.ReadableStream): Promise<DeviceLine[]> {
  const parser = input.pipe(parse({ bom: true, trim: false, skip_empty_lines: true, relax_column_count: true }));
  // What cannot be read ends the parser, which is what is awaited.
  input.on('error', (error) => parser.destroy(error));
  let columns: readonly string[] | undefined;
  const lines = new Map<string, DeviceLine>();
  for await (const cells of parser as AsyncIterable<string[]>) {
    if (columns === undefined) {
      const isHead = cells.some((cell) => cell.trim().toLowerCase() === 'id');
      columns = isHead ? cells.map((cell) => cell.trim().toLowerCase()) : COLUMNS;
      if (isHead) {
        const stranger = columns.find((column) => !COLUMNS.some((each) => each === column));
        if (stranger !== undefined)
          throw new Error(`the column ${JSON.stringify(stranger)} is none of id, secret, code`);
        continue;
      }
    }
    if (cells.length > columns.length) throw new Error(`a line has more than ${columns.length} columns: ${cells[0]}`);
    const [id, secret, code] = COLUMNS.map((column) => cells[columns?.indexOf(column) ?? -1] ?? '');
    if (id === undefined || id === '') throw new Error('a line has no id');
    if (lines.has(id)) throw new Error(`${JSON.stringify(id)} is there twice`);
    lines.set(id, { id, secret: secret ?? '', code: code ?? '' });
  }
  return [...lines.values()];
}

/** Cells as a line of CSV (RFC 4180). */
export function csvLine(cells: readonly string[]): string {
  return cells.map((cell) => (/[",\r\n]|^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(',');
}
