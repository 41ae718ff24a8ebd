// Somebody's headless Chromium, told by JSON lines what to do (see clients/driver.py).
//
// Environment: CHROMIUM, the browser; BROWSER_TOOLS, the folder that has playwright-core and axe-core.

import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import path from 'node:path';

const require = createRequire(path.join(process.env.BROWSER_TOOLS, 'package.json'));
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
// What a person waits for at most, in milliseconds.
const PATIENCE = 25_000 * Number(process.env.E2E_PATIENCE ?? 1);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM, args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb'],
});
let context;
let page;
let frame;
let console_;
let requests;

const commands = {
  /** A browser as it comes new, without scripts unless they are wanted. */
  async fresh({ width = 1280, height = 800, scheme = 'light', scripts = false }) {
    await context?.close();
    context = await browser.newContext({
      viewport: { width, height }, colorScheme: scheme, locale: 'en-GB', javaScriptEnabled: scripts, reducedMotion: 'reduce',
      ignoreHTTPSErrors: true,
    });
    page = await context.newPage();
    frame = await context.newCDPSession(page);
    page.setDefaultTimeout(PATIENCE);
    console_ = [];
    requests = [];
    page.on('console', (message) => { if (message.type() === 'error') console_.push(message.text()); });
    page.on('pageerror', (error) => console_.push(String(error)));
    page.on('request', (request) => requests.push(request));
  },

  /** Another window of it. */
  async resize({ width, height, scheme }) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
  },

  /** Types an address. */
  async visit({ url }) {
    await page.goto(url, { waitUntil: 'commit' });
    await page.locator('h1').waitFor();
  },

  /** Another tab, in which something is clicked. */
  async second_tab({ url, clicked }) {
    const tab = await context.newPage();
    tab.setDefaultTimeout(PATIENCE);
    await tab.goto(url);
    await tab.getByRole('button', { name: clicked, exact: true }).click();
    await tab.waitForURL((now) => String(now) !== url);
    await tab.close();
  },

  async reload() {
    await page.reload();
  },

  /** Awaits that a text is shown. Not by a locator: that waits for a page which is still being fetched. */
  async sees({ text }) {
    for (const end = Date.now() + PATIENCE; ;) {
      const shown = await page.evaluate(() => document.body?.innerText ?? '').catch(() => '');
      if (shown.includes(text)) return;
      if (Date.now() > end) throw new Error(`never shown: ${text}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  },

  /** Types into the field of this label, in place of what it holds. */
  async fill({ label, text }) {
    await page.getByLabel(label, { exact: true }).fill(text);
  },

  /** Clicks what has this role and name; `hasty`: and does not await the page that comes of it. */
  async click({ role = 'button', name, hasty = false }) {
    await page.getByRole(role, { name, exact: true }).click({ noWaitAfter: hasty });
  },

  /** A key, as the keyboard has it. */
  async press({ key }) {
    await page.keyboard.press(key);
  },

  /** Types where the focus is. */
  async type({ text }) {
    await page.keyboard.type(text);
  },

  /** What a person who does not see is told of what has the focus. */
  async focus() {
    return page.evaluate(() => {
      const at = document.activeElement;
      const said = (ids) => (ids ?? '').split(' ').filter(Boolean).map((id) => document.getElementById(id)?.textContent ?? '?');
      return {
        tag: at.tagName.toLowerCase(),
        name: at.labels?.[0]?.textContent ?? at.textContent.trim(),
        described: said(at.getAttribute('aria-describedby')).join(' '),
        invalid: at.getAttribute('aria-invalid') === 'true',
        outlined: getComputedStyle(at).outlineStyle !== 'none',
      };
    });
  },

  /** What the page is. */
  async page() {
    const found = await page.evaluate(() => ({
      title: document.title,
      text: document.body.innerText,
      html: document.documentElement.outerHTML,
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    }));
    return { ...found, url: page.url() };
  },

  /** What the window's frame shows, also while the next page is on its way: the page itself cannot be asked then. */
  async frame() {
    const { currentIndex, entries } = await frame.send('Page.getNavigationHistory');
    return { title: entries[currentIndex].title, url: entries[currentIndex].url };
  },

  /** From now on, there is nothing new at such an address: the browser stays where it is. */
  async still({ address }) {
    await page.route(address, (route) => route.fulfill({ status: 204 }));
  },

  /** What the developer's console has complained of. */
  async complaints() {
    return console_;
  },

  /** What the browser keeps. */
  async cookies() {
    return context.cookies();
  },

  /** Every request so far. */
  async requests() {
    return Promise.all(requests.map(async (request) => {
      const headers = await request.allHeaders().catch(() => request.headers());
      return { method: request.method(), url: request.url(), referer: headers.referer ?? null };
    }));
  },

  /** What axe finds wrong, by everything that it knows. */
  async axe() {
    await page.evaluate(AXE);
    const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations', 'incomplete'] }));
    const told = (rule) => `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => node.html).join(' | ')}`;
    return { violations: result.violations.map(told), incomplete: result.incomplete.map(told), passes: result.passes.length };
  },

  /** The whole page as a PNG. */
  async picture({ file }) {
    await page.mouse.move(0, 0);
    await page.screenshot({ path: file, fullPage: true, animations: 'disabled', caret: 'hide' });
  },

  /** Pictures of one page on one sheet: two narrow ones, and two wide ones at half their size. */
  async sheet({ narrow, wide, file }) {
    const embedded = (name) => `data:image/png;base64,${readFileSync(name).toString('base64')}`;
    const images = (names, width) => names.map((name) => `<img width="${width}" src="${embedded(name)}">`).join('');
    const other = await browser.newPage({ viewport: { width: 1440, height: 800 } });
    await other.setContent(`<style>
      body { margin: 0 } #all { display: flex; gap: 16px; align-items: start; padding: 16px; background: #9a9fad; width: max-content }
      #wide { display: flex; flex-direction: column; gap: 16px } img { display: block; border-radius: 6px }
    </style><div id="all">${images(narrow, 360)}<div id="wide">${images(wide, 640)}</div></div>`);
    await other.waitForFunction(() => [...document.images].every((image) => image.complete));
    writeFileSync(file, await other.locator('#all').screenshot());
    await other.close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...options } = JSON.parse(line);
  let answer = { answer: id };
  try {
    answer.ok = (await commands[name](options)) ?? null;
  } catch (error) {
    console.error(error);
    const seen = await page?.evaluate(() => `${location.href}\n${document.body.innerText}`).catch(String);
    answer.error = `${error}\nThe page: ${seen}`;
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
process.exit(0);
