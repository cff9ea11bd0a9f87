// Twenty workers with Node's own `fetch`, otherwise as crew_requests.py.
//
//     node crew_fetch.mjs CALLS

const base = process.env.OMNI_BASE_URL;
const key = process.env.OMNI_API_KEY;
const workers = 20;
const calls = Number(process.argv[2]);

async function work(first) {
  const bad = [];
  for (let call = first; call < calls; call += workers) {
    const answer = await fetch(`${base}/api/v1/labels?crew=fetch-${call}`, {
      headers: { authorization: `Bearer ${key}` },
    });
    const text = await answer.text();
    if (answer.status !== 200) bad.push(`${call}: ${answer.status} ${text.slice(0, 200)}`);
  }
  return bad;
}

const crew = Array.from({ length: workers }, (_, first) => work(first));
const bad = (await Promise.all(crew)).flat();
console.log(bad.length ? bad.join("\n") : `fetch: ${calls} calls, all answered`);
process.exitCode = bad.length ? 1 : 0;
