// The pages that attack: what they are, and how each comes to be shown.
import { writeFileSync } from 'node:fs'

/** A page that does all of tries.js to every one of `urls`; `{try}` in one is replaced by the try's name. */
export const page = (tries, urls, home) => `<!doctype html><meta charset=utf-8><body><script>
${tries.replaceAll('</script', '<\\/script')}
for (const url of ${JSON.stringify(urls)}) {
  attack(name => url.replace('{try}', name), ${JSON.stringify(home)})
}
</script>`

const escaped = html => html.replaceAll('&', '&amp;').replaceAll('"', '&quot;')

/**
 * Every kind of page. `show(tab, site, html)` puts `html` into `tab` as that kind of page; `site` is
 * the attacker's server, which gives `html` out under the address that `site.give(html)` names.
 */
export const kinds = {
  'localhost, another port': { show: (tab, site, html) => tab.goto(`http://localhost:${site.port}${site.give(html)}`) },
  '127.0.0.1, another port': { show: (tab, site, html) => tab.goto(`http://127.0.0.1:${site.port}${site.give(html)}`) },
  'another name': { show: (tab, site, html) => tab.goto(`http://evil.test:${site.port}${site.give(html)}`) },
  'https': { show: (tab, site, html) => tab.goto(`https://evil.test:${site.tls}${site.give(html)}`) },
  'file': {
    show: (tab, site, html) => {
      const path = `${site.work}/page${site.give(html).replace('/', '-')}.html`
      writeFileSync(path, html)
      return tab.goto(`file://${path}`)
    },
  },
  'data: frame': {
    show: (tab, site, html) =>
      tab.goto(`http://evil.test:${site.port}${site.give(`<iframe src="data:text/html,${encodeURIComponent(html)}"></iframe>`)}`),
  },
  'sandboxed frame': {
    show: (tab, site, html) =>
      tab.goto(
        `http://localhost:${site.port}${site.give(`<iframe sandbox="allow-scripts allow-forms allow-popups" srcdoc="${escaped(html)}"></iframe>`)}`,
      ),
  },
  // The name led to the attacker's server when the page was loaded, and leads here from then on.
  'rebound name': {
    target: address => address.replace('127.0.0.1', 'evil.test'),
    show: async (tab, site, html, target) => {
      const start = `${target}/start${site.give(html).replace('/', '-')}`
      await tab.route(start, route => route.fulfill({ contentType: 'text/html', body: html }))
      return tab.goto(start)
    },
  },
  // A gateway in a network, by plain http: no browser says to such a host whose page asks (Sec-Fetch-Site).
  'target in plain http': {
    target: address => address.replace('127.0.0.1', 'gateway.test'),
    show: (tab, site, html) => tab.goto(`http://evil.test:${site.port}${site.give(html)}`),
  },
  'target named localhost': {
    target: address => address.replace('127.0.0.1', 'localhost'),
    show: (tab, site, html) => tab.goto(`http://127.0.0.1:${site.port}${site.give(html)}`),
  },
}

/** What moves the whole window to `url`, one page each: `(at, home) => html`. */
export const moves = {
  'top-location': at => `<script>location = ${JSON.stringify(at)}</script>`,
  'top-meta-refresh': at => `<meta http-equiv=refresh content="0;url=${at}">`,
  'top-click': at => `<a id=a href="${at}">x</a><script>a.click()</script>`,
  'top-click-no-referrer': at => `<a id=a rel=noreferrer href="${at}">x</a><script>a.click()</script>`,
  'top-form-get': at => `<form id=f action="${at}"><input name=try value=top-form-get></form><script>f.submit()</script>`,
  'top-form-post': at => `<form id=f method=post action="${at}"></form><script>f.submit()</script>`,
  'top-form-text': at =>
    `<form id=f method=post enctype=text/plain action="${at}"><input name='{"a":"' value='"}'></form><script>f.submit()</script>`,
  'top-redirected-302': (at, home) =>
    `<script>location = ${JSON.stringify(`${home}/to?status=302&url=${encodeURIComponent(at)}`)}</script>`,
  'top-form-redirected-307': (at, home) =>
    `<form id=f method=post action="${home}/to?status=307&url=${encodeURIComponent(at)}"></form><script>f.submit()</script>`,
}
