// Look at Omniboard as a person would: node omniboard_shots.cjs URL FOLDER
//
// Writes omniboard.png, omniboard-metrics.png and omniboard-artifact.png into FOLDER and prints, as
// JSON, what it saw: the rows of the list, the names in the metric chart, the artifacts of the
// report, the requests that failed and the errors of the page. Needs puppeteer-core (NODE_PATH says
// where it is) and Chromium (CHROMIUM, default /usr/bin/chromium).
"use strict";
const puppeteer = require("puppeteer-core");
const [url, folder] = process.argv.slice(2);
const ROW = ".public_fixedDataTable_bodyRow";
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

(async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
    defaultViewport: { width: 1900, height: 820 },
  });
  const seen = { rows: [], series: [], artifacts: [], failed: [], errors: [] };
  const page = await browser.newPage();
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
    await page.goto(url, { waitUntil: "networkidle2", timeout: 60000 });
    await page.waitForSelector(ROW, { timeout: 30000 });
    await pause(2000);
  };

  await visit();
  seen.rows = await rows();
  await page.screenshot({ path: `${folder}/omniboard.png` });

  await toggle("ijepa.pretrain");
  await page.waitForSelector(".js-plotly-plot .lines", { timeout: 20000 });
  seen.series = await page.$$eval(".legendtext", (all) => all.map((name) => name.textContent));
  // the series have very different scales: leave the loss alone in the chart
  const others = () =>
    page.$$eval(".multiselect-container input", (boxes) => {
      const box = boxes.find((b) => /^train\.(?!loss)/.test(b.value) && b.checked);
      if (box) box.click();
      return Boolean(box);
    });
  while (await others()) await pause(500); // each click draws the boxes anew
  await pause(1500);
  await page.screenshot({ path: `${folder}/omniboard-metrics.png` });

  await visit();

  await toggle("ijepa.report");
  await page.evaluate(() => {
    const tabs = [...document.querySelectorAll("a")];
    tabs.find((tab) => tab.innerText.trim() === "Artifacts").click();
  });
  await pause(3000);
  seen.artifacts = await page.evaluate(() => document.body.innerText.match(/[\w.-]+\.\w{2,4}\b/g));
  await page.screenshot({ path: `${folder}/omniboard-artifact.png` });
  await browser.close();
  console.log(JSON.stringify(seen));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
