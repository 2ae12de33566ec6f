const FIRST_SLOTS = 8;
/** Of all that are new: most streams carry little. */
const NO_SLOTS: undefined[] = [];
/** What an empty one may keep: about the room for what is on its way in a busy stream. */
const EMPTY_SLOTS_MAX = 64;

/**
 * What there is under the numbers of a stream, from 0 up: a ring in one array, for as many numbers as lie between the least
 * and the greatest. It is no `Map`, since as much is taken from it as is put into it (decision 29).
 */
export class Numbered<Item> {
  #slots: (Item | undefined)[] = NO_SLOTS;
  #first = 0;
  #end = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** There is nothing under any number below it, and there will not be. */
  get first(): number {
    return this.#first;
  }

  /** How many numbers there are from the first to the last: each has its slot, also when there is nothing under it. */
  get span(): number {
    return this.#end - this.#first;
  }

  get(number: number): Item | undefined {
    if (number < this.#first || number >= this.#end) return undefined;
    return this.#slots[number & (this.#slots.length - 1)];
  }

  /** Puts an item under a number, in place of what is there; it may not be below the first. */
  put(number: number, item: Item): void {
    if (number - this.#first >= this.#slots.length) this.#grow(number);
    const slot = number & (this.#slots.length - 1);
    if (this.#slots[slot] === undefined) this.#size++;
    this.#slots[slot] = item;
    if (number >= this.#end) this.#end = number + 1;
  }

  #grow(number: number): void {
    let room = Math.max(FIRST_SLOTS, this.#slots.length);
    while (number - this.#first >= room) room *= 2;
    const slots = new Array<Item | undefined>(room).fill(undefined);
    for (let each = this.#first; each < this.#end; each++) slots[each & (room - 1)] = this.get(each);
    this.#slots = slots;
  }

  /** Takes away what is under the number. Where that was the first, the next that has something is. */
  take(number: number): Item | undefined {
    const item = this.get(number);
    if (item === undefined) return undefined;
    const mask = this.#slots.length - 1;
    this.#slots[number & mask] = undefined;
    this.#size--;
    while (this.#first < this.#end && this.#slots[this.#first & mask] === undefined) this.#first++;
    if (this.#size === 0 && mask >= EMPTY_SLOTS_MAX) this.#slots = NO_SLOTS;
    return item;
  }

  /** Takes away all below a number, which is the first from now on. */
  takeBelow(number: number, call: (item: Item) => void): void {
    const mask = this.#slots.length - 1;
    for (; this.#first < Math.min(number, this.#end); this.#first++) {
      const item = this.#slots[this.#first & mask];
      if (item === undefined) continue;
      this.#slots[this.#first & mask] = undefined;
      this.#size--;
      call(item);
    }
    this.#first = Math.max(this.#first, number);
    this.#end = Math.max(this.#end, number);
    if (this.#size === 0 && mask >= EMPTY_SLOTS_MAX) this.#slots = NO_SLOTS;
  }

  /** All there is, in the order of their numbers. */
  inOrder(): Item[] {
    const items: Item[] = [];
    for (let number = this.#first; number < this.#end; number++) {
      const item = this.get(number);
      if (item !== undefined) items.push(item);
    }
    return items;
  }
}
