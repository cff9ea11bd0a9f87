// What is looked at in a page as it stands, by functions that run within it.

/** Once all has the colours that it is on its way to: after a change of theme they glide there. */
export const settled = () => Promise.allSettled(document.getAnimations().map(it => it.finished))

/** How far it can be scrolled sideways, in pixels. */
export const sideways = () => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth

/** Texts that are too faint (WCAG 2.2, 1.4.3): what they say, their ratio, and what it should be. */
export const faint = () => {
  const canvas = document.createElement('canvas')
  canvas.width = canvas.height = 1
  const paint = canvas.getContext('2d', { willReadFrequently: true })
  /** Any CSS colour as red, green, blue (0 to 255) and how much it covers (0 to 1). */
  const seen = new Map()
  const colour = css => {
    if (!seen.has(css)) {
      paint.clearRect(0, 0, 1, 1)
      paint.fillStyle = css
      paint.fillRect(0, 0, 1, 1)
      const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data
      seen.set(css, [r, g, b, a / 255])
    }
    return seen.get(css)
  }
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1]
  const light = rgb => {
    const [r, g, b] = rgb.slice(0, 3).map(it => it / 255).map(it => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ratio = (a, b) => {
    const [more, less] = [light(a), light(b)].sort((x, y) => y - x)
    return (more + 0.05) / (less + 0.05)
  }
  /** All that may lie behind an element: a gradient is as many as it has colours. */
  const behind = element => {
    if (!element) return [colour(getComputedStyle(document.documentElement).colorScheme.includes('dark') && matchMedia('(prefers-color-scheme: dark)').matches ? 'black' : 'white')]
    const style = getComputedStyle(element)
    const own = style.backgroundImage.startsWith('linear-gradient') ? style.backgroundImage.match(/(oklch|rgba?|color)\([^()]*\)/g) : [style.backgroundColor]
    return own.flatMap(css => (colour(css)[3] === 1 ? [colour(css)] : behind(element.parentElement).map(it => over(colour(css), it))))
  }
  const opacity = element => (element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1)
  const found = []
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let text; (text = texts.nextNode()); ) {
    const element = text.parentElement
    if (!text.data.trim() || !element.checkVisibility({ visibilityProperty: true }) || element.closest('script, style, noscript, .unseen, option')) continue
    const style = getComputedStyle(element)
    const size = parseFloat(style.fontSize)
    const need = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5
    const veil = opacity(element)
    for (const ground of behind(element)) {
      const ink = over([...colour(style.color).slice(0, 3), colour(style.color)[3] * veil], ground)
      const got = ratio(ink, ground)
      if (got < need) found.push(`"${text.data.trim().slice(0, 40)}" has ${got.toFixed(2)}, and needs ${need}`)
    }
  }
  return [...new Set(found)]
}

/** What a reader of the screen would miss. */
export const unnamed = () => {
  const found = []
  const shown = selector => [...document.querySelectorAll(selector)].filter(it => it.checkVisibility())
  const name = it => it.getAttribute('aria-label') || document.getElementById(it.getAttribute('aria-labelledby'))?.textContent || it.labels?.[0]?.textContent || it.textContent
  for (const it of shown('button, input, select, a, [role=img], section, nav, dialog')) if (!name(it)?.trim()) found.push(`nameless: ${it.outerHTML.slice(0, 80)}`)
  for (const it of shown('svg')) if (!it.closest('[aria-hidden=true]') && !(it.getAttribute('role') === 'img' && it.getAttribute('aria-label'))) found.push('a picture without words')
  for (const it of shown('table')) {
    if (!it.caption?.textContent.trim()) found.push('a table without a caption')
    if ([...it.querySelectorAll('th')].some(th => !['row', 'col'].includes(th.scope))) found.push('a heading cell without scope')
  }
  const levels = shown('h1, h2, h3, h4').map(it => Number(it.localName[1]))
  if (levels.filter(it => it === 1).length !== 1) found.push('not one h1')
  levels.forEach((level, at) => level > (levels[at - 1] ?? level) + 1 && found.push(`h${level} after h${levels[at - 1]}`))
  for (const tag of ['header', 'main', 'footer']) if (shown(tag).length !== 1) found.push(`not one ${tag}`)
  const ids = [...document.querySelectorAll('[id]')].map(it => it.id)
  if (new Set(ids).size !== ids.length) found.push('an id twice')
  return found
}

/** Elements that an HTML parser would have made of a string, and that the page never makes itself. */
export const foreign = () => [...document.querySelectorAll('img, iframe, object, embed, base, body script ~ script, [onerror], [onclick], [style*="url"]')].map(it => it.outerHTML.slice(0, 80))
