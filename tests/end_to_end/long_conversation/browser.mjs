// A person's web client in a headless Chromium, told by JSON lines what to do (see clients/driver.py).
//
// Environment: CONVERSATION, where a picture of what failed goes; WEB_CLIENT, the folder of a built Cinny; CHROMIUM, the browser; PLAYWRIGHT, the folder that has playwright-core.

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import path from 'node:path';

const { chromium } = createRequire(path.join(process.env.PLAYWRIGHT, 'package.json'))('playwright-core');
const TYPES = {
  '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.json': 'application/json',
  '.wasm': 'application/wasm', '.png': 'image/png', '.svg': 'image/svg+xml', '.woff2': 'font/woff2', '.ttf': 'font/ttf',
};
// What a person waits for at most, in milliseconds.
const PATIENCE = 25_000 * Number(process.env.E2E_PATIENCE ?? 1);

// A page that has not changed for so long is taken to be ready, in milliseconds.
const STILL = 800;

let page;

/** In the page: awaits that nothing in it has changed for a while. */
function quiet(still) {
  return new Promise((resolve) => {
    let timer = setTimeout(done, still);
    const observer = new MutationObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(done, still);
    });
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    function done() {
      observer.disconnect();
      resolve();
    }
  });
}

/** Serves the client's files, some of which pages ask for beside themselves; a path that is none of them is a page of the client. */
function serve(folder) {
  const server = createServer(async (request, response) => {
    const name = path.normalize(new URL(request.url, 'http://localhost').pathname);
    const file = path.join(folder, name);
    for (const candidate of [file, path.join(folder, path.basename(name)), path.join(folder, 'index.html')]) {
      const data = await readFile(candidate).catch(() => null);
      if (data) {
        const type = TYPES[path.extname(candidate)] ?? 'application/octet-stream';
        response.writeHead(200, { 'content-type': type }).end(data);
        return;
      }
    }
    response.writeHead(404).end();
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

const commands = {
  /** Signs in and opens the client. */
  async open({ homeserver, user, password, width, height }) {
    const answer = await fetch(`${homeserver}/_matrix/client/v3/login`, {
      method: 'POST',
      body: JSON.stringify({
        type: 'm.login.password', identifier: { type: 'm.id.user', user }, password,
        initial_device_display_name: 'Web client',
      }),
    });
    const { access_token: token, device_id: device, user_id: id } = await answer.json();
    const port = await serve(process.env.WEB_CLIENT);
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM, args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb'],
    });
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: 'light', locale: 'en-GB' });
    await context.addInitScript((known) => {
      for (const [key, value] of Object.entries(known)) localStorage.setItem(key, value);
    }, {
      cinny_access_token: token, cinny_device_id: device, cinny_user_id: id, cinny_hs_base_url: homeserver,
      settings: JSON.stringify({ messageSpacing: '300', isNotificationSounds: false, showNotifications: false, hideMembershipEvents: true }),
    });
    page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on('pageerror', (error) => console.error(String(error)));
    await page.goto(`http://127.0.0.1:${port}/home/`);
    await page.evaluate(quiet, STILL);
  },

  /** Shows a page of the client, such as a room. */
  async visit({ at }) {
    await page.goto(new URL(at, page.url()).href);
    await page.evaluate(quiet, STILL);
  },

  /** Awaits that a text is shown, below all else. */
  async sees({ text }) {
    const wanted = page.getByText(text).last();
    const latest = page.getByText('Jump to Latest');
    await wanted.or(latest).last().waitFor();
    await page.evaluate(quiet, STILL);
    if (await latest.isVisible()) await latest.click();
    await wanted.waitFor();
    await page.evaluate(quiet, STILL);
    await wanted.evaluate((element) => element.scrollIntoView({ block: 'center' }));
  },

  /** Awaits that pictures are there and nothing moves, and takes what the window shows as a PNG. */
  async picture({ file }) {
    await page.mouse.move(0, 0);
    await page.getByText('Connecting...').waitFor({ state: 'hidden' });
    await page.waitForFunction(() => [...document.images].every((image) => image.complete));
    await page.evaluate(() => document.fonts.ready);
    await page.evaluate(quiet, STILL);
    await page.screenshot({ path: file, animations: 'disabled', caret: 'hide' });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...options } = JSON.parse(line);
  let answer = { answer: id };
  try {
    answer.ok = (await commands[name](options)) ?? null;
  } catch (error) {
    console.error(error);
    await page?.screenshot({ path: path.join(process.env.CONVERSATION, 'failed.png') });
    answer.error = String(error);
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
