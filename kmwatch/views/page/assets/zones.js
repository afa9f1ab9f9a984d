// Page allocations by order and zone.

function orderSums(model, range) {
  const zones = new Map();
  let orders = 0;
  for (const site of model.sites) {
    const count = range.sums.count[site.index];
    const failed = range.sums.failures[site.index] + range.sums.opportunistic_failures[site.index];
    if (site.kind !== "page_alloc" || (!count && !failed)) continue;
    orders = Math.max(orders, site.order + 1);
    // One that failed was given no zone.
    const name = site.zone ?? `asked for ${site.zone_asked}`;
    const sums = zones.get(name) ?? { count: [], failed: [] };
    sums.count[site.order] = (sums.count[site.order] ?? 0) + count;
    sums.failed[site.order] = (sums.failed[site.order] ?? 0) + failed;
    zones.set(name, sums);
  }
  return { zones, orders };
}

function zonesOption({ zones, orders }) {
  const axis = axisStyle();
  const column = (values) => Array.from({ length: orders }, (_, order) => values[order] || null);
  const paints = ["one", "two", "three", "warn", "soft"];
  const series = [...zones].flatMap(([name, sums], at) => [
    { name: plain(name, 60), data: column(sums.count), itemStyle: { color: colour(paints[at % paints.length]), decal: BARE } },
    { name: `${plain(name, 60)}, failed`, data: column(sums.failed), itemStyle: { color: colour("bad"), decal: HATCH } },
  ]);
  const there = series.filter((each) => each.data.some(Boolean));
  return {
    aria: told(`Page allocations of ${orders} orders`),
    legend: { top: 0, type: "plain", textStyle: { color: colour("ink") } },
    grid: { left: 60, right: 8, top: 52, bottom: 40 },
    xAxis: {
      ...axis,
      type: "category",
      name: "order",
      nameLocation: "middle",
      nameGap: 24,
      data: Array.from({ length: orders }, (_, order) => String(order)),
    },
    // From below 1: an order of which there was one has a bar.
    yAxis: {
      ...axis,
      type: "log",
      min: 0.5,
      startValue: 0.5,
      axisLabel: { ...axis.axisLabel, showMinLabel: false, formatter: (value) => short(value) },
    },
    tooltip: tooltip(
      (all) => [`order ${all[0].axisValue}`, ...all.filter((each) => each.value).map((each) => `${each.seriesName}: ${number(each.value)}`)].join("\n"),
      { trigger: "axis", axisPointer: { type: "shadow" } },
    ),
    series: there.map((each) => ({ type: "bar", barMaxWidth: 28, ...each })),
  };
}

function drawZones(model, range) {
  const draw = chart("zones-chart", 260, () => {
    const sums = orderSums(model, range);
    return sums.orders ? zonesOption(sums) : "No page allocation in this span.";
  });
  range.listen(draw);
}
