// The MCP client of npm's `@modelcontextprotocol/sdk`, with no key: by itself, or by way of `mcp-remote`,
// which agents start where they speak to programs alone.
//
//   mcp.mjs FOLDER URL direct|bridge

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const [folder, origin, scene] = process.argv.slice(2);
const url = new URL("/mcp/https", origin);
const require = createRequire(join(folder, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${name}`)));
const { Client } = await load("client/index.js");
const { LoggingMessageNotificationSchema } = await load("types.js");

function same(what, got, wanted) {
  [got, wanted] = [got, wanted].map((one) => JSON.stringify(one));
  if (got !== wanted) throw new Error(`${what}: ${got}, not ${wanted}`);
  console.log(`${what}: ${got}`);
}

const client = new Client({ name: "a-test", version: "1" });
const spoke = new Promise((resolve) => {
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    if (params.data === "the stream is open") resolve();
  });
});

// Calls the tool that says how far it is; gives what it said.
async function run(heard, args) {
  const said = [];
  const onprogress = ({ progress }) => {
    said.push(progress);
    heard?.(progress);
  };
  const result = await client.callTool({ name: "getData", arguments: args }, undefined, { onprogress });
  return [said, JSON.parse(result.content[0].text)];
}

const report = (progress) =>
  client.notification({ method: "notifications/progress", params: { progressToken: "seen", progress } });

async function work() {
  same("tools", (await client.listTools()).tools.map(({ name }) => name), ["pickModel", "pickTopic", "getData"]);
  await spoke;
  // Each step waits until the one before was reported: were any held back, this would hang.
  let [said, found] = await run(report, { steps: 5, acknowledged: true });
  same("progress, one by one", said, [1, 2, 3, 4, 5]);
  same("whose key it was", found.seenBy, "org");
  // Here too: this client forgets progress that comes in one piece with the result, as by way of a pipe.
  [said] = await run(report, { steps: 5, acknowledged: true, breakAfter: 2 });
  same("progress, resumed after a cut", said, [1, 2, 3, 4, 5]);
  [said] = await run(report, { steps: 5, acknowledged: true, closeAfter: 3 });
  same("progress, resumed after a pause", said, [1, 2, 3, 4, 5]);
}

async function direct() {
  const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
  const transport = new StreamableHTTPClientTransport(url);
  await client.connect(transport);
  await work();
  const session = transport.sessionId;
  same("a session", session?.length > 20, true);
  await transport.terminateSession();
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
  const headers = { "mcp-session-id": session, "content-type": "application/json" };
  same("it is gone", (await fetch(url, { method: "POST", headers, body })).status, 404);
  await client.close();
}

async function bridge() {
  const { StdioClientTransport } = await load("client/stdio.js");
  const program = join(folder, "node_modules/mcp-remote/dist/proxy.js");
  // All of ours, of which the one that began this left little.
  const transport = new StdioClientTransport({
    command: process.execPath, args: [program, url.href], env: process.env, stderr: "pipe",
  });
  let words = "";
  transport.stderr.on("data", (some) => (words += some));
  try {
    await client.connect(transport);
    await work();
    await client.close();
  } finally {
    console.log(words);
  }
  same("it wants no log-in", /authenticat|authoriz|browser|log ?in/i.test(words), false);
}

const tooLong = setTimeout(() => {
  console.error("it hangs");
  process.exit(1);
}, 120_000);
await { direct, bridge }[scene]();
clearTimeout(tooLong);
console.log("all of it holds");
process.exit(0);
