/** A signal that comes twice within this was sent once: npm passes on a Ctrl-C that the terminal has sent as well. */
export const SAME_SIGNAL_MS = 1000;
