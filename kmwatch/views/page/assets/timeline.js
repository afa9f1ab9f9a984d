// Rates by slice; a drag or two sliders choose which slices the rest of the page tells of.

/** Sums of all sites by slice, each piece of memory counted once. */
function sliceSums(model, measure) {
  const sums = new Array(model.timeline.seconds.length).fill(0);
  const { rows } = model.timeline;
  rows.site.forEach((site, at) => {
    if (model.sites[site].counted_once) sums[rows.slice[at]] += rows[measure][at];
  });
  return sums;
}

function timelineRows(model) {
  const { seconds, pressure } = model.timeline;
  const rate = (values) => values.map((value, at) => value / Math.max(seconds[at], 1e-9));
  const rows = [
    { name: "allocations/s", series: { "allocations/s": rate(sliceSums(model, "count")) }, shown: short, paint: "one" },
    { name: "allocated/s", series: { "bytes/s": rate(sliceSums(model, "bytes_allocated")) }, shown: size, paint: "two" },
    {
      name: "failures",
      series: { real: sliceSums(model, "failures"), expected: sliceSums(model, "opportunistic_failures") },
      shown: short,
      paint: "bad",
    },
    { name: "pressure", series: pressure, shown: short, paint: "warn" },
  ];
  return rows.filter((row, at) => at < 2 || Object.values(row.series).some((values) => values.some(Boolean)));
}

function timelineOption(model, range, rows, width) {
  const { length, seconds: lengths } = model.timeline;
  const starts = lengths.map((_, at) => at * length);
  const series = [];
  rows.forEach((row, at) => {
    Object.entries(row.series).forEach(([name, values], nth) => {
      series.push({
        type: "bar",
        name: plain(name.replaceAll("_", " ")),
        stack: row.name,
        xAxisIndex: at,
        yAxisIndex: at,
        barCategoryGap: "12%",
        barMaxWidth: 60,
        itemStyle: { color: colour(row.paint), opacity: 1 - 0.25 * nth, decal: BARE },
        data: values.map((value, slice) => ({
          value,
          itemStyle: { opacity: slice >= range.from && slice < range.to ? 1 - 0.25 * nth : 0.18 },
        })),
      });
    });
  });
  const left = width < 500 ? 56 : 76;
  return {
    aria: told(`${rows.map((row) => row.name).join(", ")} in ${lengths.length} slices of time`),
    grid: rows.map((_, at) => ({ left, right: 8, top: 30 + at * 104, height: 60 })),
    xAxis: rows.map((_, at) => ({
      ...axisStyle(),
      type: "category",
      gridIndex: at,
      data: starts.map((start) => moment(start, length)),
      axisLabel: { ...axisStyle().axisLabel, show: at === rows.length - 1 },
    })),
    yAxis: rows.map((row, at) => ({
      ...axisStyle(),
      type: "value",
      gridIndex: at,
      name: row.name,
      nameLocation: "end",
      nameGap: 14,
      nameTextStyle: { color: colour("soft"), align: "left", padding: [0, 0, 0, -left + 8] },
      splitNumber: 2,
      minInterval: 1,
      ...(row.shown === size ? byteAxis(Math.max(...Object.values(row.series)[0]), 2) : {}),
      axisLabel: { ...axisStyle().axisLabel, formatter: (value) => row.shown(value) },
    })),
    series,
    tooltip: tooltip((all) => timelineTip(all, rows, starts, lengths), { trigger: "axis", axisPointer: { type: "shadow" } }),
    axisPointer: { link: [{ xAxisIndex: "all" }] },
    brush: {
      xAxisIndex: "all",
      brushMode: "single",
      transformable: false,
      outOfBrush: {},
      throttleType: "debounce",
      brushStyle: { color: "rgba(120,140,180,0.25)", borderColor: colour("one"), borderWidth: 1 },
    },
    toolbox: { show: false },
  };
}

function timelineTip(all, rows, starts, lengths) {
  const given = Array.isArray(all) ? all : [all];
  if (!given.length) return "";
  const at = given[0].dataIndex;
  const lines = rows.flatMap((row) =>
    Object.entries(row.series)
      .filter(([, values], nth) => values[at] || !nth)
      .map(([name, values]) => `${plain(name.replaceAll("_", " "))}: ${row.shown(values[at])}`),
  );
  return [`${moment(starts[at], lengths[at])} to ${moment(starts[at] + lengths[at], lengths[at])}`, ...lines].join("\n");
}

function timelineControls(model, range) {
  const [from, to, output] = ["timeline-from", "timeline-to", "timeline-range"].map(byId);
  from.max = range.slices - 1;
  to.min = 1;
  to.max = range.slices;
  from.addEventListener("input", () => range.choose(+from.value, Math.max(range.to, +from.value + 1)));
  to.addEventListener("input", () => range.choose(Math.min(range.from, +to.value - 1), +to.value));
  byId("timeline-reset").addEventListener("click", () => range.choose(0, range.slices));
  const show = () => {
    const { length } = model.timeline;
    const begin = range.from * length;
    from.value = range.from;
    to.value = range.to;
    output.dataset.from = range.from;
    output.dataset.to = range.to;
    const [first, behind] = [begin, begin + range.seconds].map((at) => moment(at, length));
    const words = `${first} to ${behind}`;
    from.setAttribute("aria-valuetext", first);
    to.setAttribute("aria-valuetext", behind);
    output.textContent = range.slices === 1 ? "one slice: nothing to choose" : range.whole ? `all, ${words}` : words;
    byId("timeline-reset").disabled = range.whole;
    from.disabled = to.disabled = range.slices === 1;
  };
  range.listen(show);
  show();
}

function drawTimeline(model, range) {
  timelineControls(model, range);
  const rows = timelineRows(model);
  const place = byId("timeline-chart");
  let seen = null;
  const draw = chart("timeline-chart", rows.length * 104 + 20, (width) => timelineOption(model, range, rows, width));
  const arm = () => {
    place.chart.dispatchAction({ type: "brush", areas: [] });
    if (range.slices > 1) {
      const brushOption = { brushType: "lineX", brushMode: "single" };
      place.chart.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption });
    }
  };
  const listen = () => {
    if (seen === place.chart) return;
    seen = place.chart;
    seen.on("brushEnd", (event) => {
      const area = event.areas[0];
      if (!area) return;
      const [first, last] = area.coordRange ?? area.coordRanges[0];
      range.choose(first, last + 1);
      arm();
    });
  };
  range.listen(() => {
    draw();
    arm();
  });
  listen();
  arm();
}
