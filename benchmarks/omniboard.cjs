// Open Omniboard and say, as JSON, how long the first row and the request for the runs took: node
// omniboard.cjs URL. The page stays open until the standard input ends.
"use strict";
const puppeteer = require("puppeteer-core");
const url = process.argv[2];

(async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
    defaultViewport: { width: 1280, height: 800 },
  });
  const page = await browser.newPage();
  const began = {};
  const seen = {};
  page.on("request", (r) => (began[r.url()] = Date.now()));
  page.on("requestfinished", (r) => {
    if (/\/Runs\?.*select=/.test(r.url())) seen.request ??= Date.now() - began[r.url()];
  });
  const start = Date.now();
  await page.goto(url, { timeout: 300000 });
  await page.waitForSelector(".public_fixedDataTable_bodyRow", { timeout: 300000 });
  const row = Date.now() - start;
  console.log(JSON.stringify({ "first row": row / 1000, "request of the runs": seen.request / 1000 }));
  process.stdin.resume();
  process.stdin.on("end", async () => {
    await browser.close();
    process.exit(0);
  });
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
