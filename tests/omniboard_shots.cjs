// Look at Omniboard as a person would: node omniboard_shots.cjs URL FOLDER
//
// Opens the list, a pretraining run, and from it report, commit and data in two clicks each, and goes
// back. Nothing is ticked or rearranged. Writes omniboard.png, omniboard-metrics.png,
// omniboard-artifact.png and, for a phone, omniboard-390.png into FOLDER and prints, as JSON, what it
// saw: the headers and rows of the list, the names in the chart, the pages behind the links, the
// requests that failed and the errors of the page. Needs puppeteer-core (NODE_PATH says where it is)
// and Chromium (CHROMIUM, default /usr/bin/chromium).
"use strict";
const puppeteer = require("puppeteer-core");
const [url, folder] = process.argv.slice(2);
const ROW = ".public_fixedDataTable_bodyRow";
const PATIENCE = 180000; // milliseconds, on a busy machine
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

(async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
    defaultViewport: { width: 1280, height: 820 },
  });
  const seen = { failed: [], errors: [], links: {} };
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("response", (r) => r.status() >= 400 && seen.failed.push(`${r.status()} ${r.url()}`));
  page.on("pageerror", (error) => seen.errors.push(String(error)));

  // A row's words, its cells apart; of the first row that has this word, or of all.
  const rows = () =>
    page.$$eval(ROW, (all) => all.map((row) => row.innerText.split(/\s*\n\s*/).join(" | ")));
  const toggle = async (word) => {
    const index = (await rows()).findIndex((row) => row.includes(word));
    if (index < 0) throw new Error(`no row has ${word}`);
    await page.click(`[test-attr="cell-row_expander-${index}"]`);
    await pause(3000);
  };

  const visit = async () => {
    await page.goto(url, { waitUntil: "networkidle2", timeout: PATIENCE });
    await page.waitForSelector(ROW);
    await pause(2000);
  };

  await visit();
  seen.rows = await rows();
  seen.headers = await page.$$eval(".public_fixedDataTable_header .public_fixedDataTableCell_main", (all) =>
    all.filter((cell) => cell.getBoundingClientRect().right < innerWidth)
      .map((cell) => cell.innerText.replace(/^::\s*/, "").trim()).filter(Boolean));
  await page.screenshot({ path: `${folder}/omniboard.png` });

  await toggle("ijepa.pretrain");
  await page.waitForSelector(".js-plotly-plot .lines");
  seen.series = await page.$$eval(".js-plotly-plot .legendtext, .js-plotly-plot .scatterlayer .trace",
    (all) => all.map((name) => name.textContent).filter(Boolean));
  seen.lines = (await page.$$(".js-plotly-plot .scatterlayer .trace")).length / 2; // smoothed, not
  seen.ticked = await page.$$eval(".multiselect-container input", (boxes) =>
    boxes.filter((box) => /^train\./.test(box.value) && box.checked).map((box) => box.value));
  await page.screenshot({ path: `${folder}/omniboard-metrics.png` });

  // the second click: the first opened the run
  for (const kind of ["report", "commit", "data"]) {
    const [link] = await page.$$(`.drilldown-view a[href$="/${kind}"]`);
    const opened = new Promise((done) => page.once("popup", done));
    await link.click();
    const behind = await opened;
    behind.setDefaultTimeout(PATIENCE);
    await behind.waitForSelector("body a");
    await pause(500);
    seen.links[kind] = await behind.evaluate(() => document.body.innerText);
    if (kind === "report") await behind.screenshot({ path: `${folder}/omniboard-artifact.png` });
    await Promise.all([
      behind.waitForNavigation({ waitUntil: "domcontentloaded" }),
      behind.evaluate(() =>
        [...document.querySelectorAll("a")].find((a) => a.innerText.startsWith("pretrain")).click()),
    ]);
    await behind.waitForSelector(".modal-dialog .drilldown-view, .modal-dialog #sidebar");
    seen.links[`${kind}, and back`] = await behind.$eval(".modal-dialog", (box) => box.innerText);
    await behind.close();
  }

  await page.setViewport({ width: 390, height: 820 });
  await visit();
  await page.screenshot({ path: `${folder}/omniboard-390.png` });
  await browser.close();
  console.log(JSON.stringify(seen));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
