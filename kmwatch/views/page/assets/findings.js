// The findings that do not stand in the file as text.

function findingItem(each) {
  const where = element("span", { class: "where" });
  where.append(each.link ? element("a", { href: fragment.link(each.link) }, plain(each.site)) : plain(each.site));
  const sure = each.confidence === "certain" ? [] : [" ", element("span", { class: "sure" }, each.confidence)];
  const head = [element("b", {}, each.severity), " ", element("code", {}, each.rule), ` ${each.name}`, ...sure, " ", where];
  const item = element("li", { class: `finding ${each.severity}`, "data-rule": each.rule }, element("p", { class: "what" }, ...head));
  item.append(element("p", {}, plain(each.message)), element("p", { class: "advice" }, plain(each.advice)));
  const saving = each.saving_bytes_per_second;
  if (saving > 0) item.append(element("p", { class: "saving" }, `saves ${size(saving)}/s`));
  return item;
}

/** They are made when somebody opens them: there can be thousands. */
function addFindings(findings) {
  const more = byId("findings-more");
  more?.addEventListener("toggle", () => more.querySelector("ol").append(...findings.map(findingItem)), { once: true });
}
