// Loaded into a server that a test starts: its process takes more memory than the machine has, as it seems to it, while
// a file is there.
import { existsSync } from 'node:fs';

const { rss } = process.memoryUsage;
const isShort = () => existsSync(process.env.TEST_SHORT_MEMORY ?? '');
process.memoryUsage.rss = () => (isShort() ? Number.MAX_SAFE_INTEGER : rss());
