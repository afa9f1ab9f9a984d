// Which slices are chosen, and the sums of the sites in them.

const MEASURES = ["count", "failures", "opportunistic_failures", "bytes_requested", "bytes_allocated", "bytes_wasted"];

/** The chosen slices: `from` is the first, `to` the first behind. Who listens is told of each change. */
class Range {
  constructor(model) {
    this.model = model;
    this.slices = model.timeline.seconds.length;
    this.listeners = [];
    this.from = 0;
    this.to = this.slices;
    this.sum();
  }

  get whole() {
    return this.from === 0 && this.to === this.slices;
  }

  /** Seconds that the chosen slices have. */
  get seconds() {
    return this.model.timeline.seconds.slice(this.from, this.to).reduce((sum, each) => sum + each, 0);
  }

  /** @param {number} from @param {number} to */
  choose(from, to) {
    const first = Math.min(Math.max(Math.trunc(from) || 0, 0), this.slices - 1);
    const last = Math.min(Math.max(Math.trunc(to) || this.slices, first + 1), this.slices);
    if (first === this.from && last === this.to) return;
    this.from = first;
    this.to = last;
    this.sum();
    this.listeners.forEach((listener) => listener());
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  /** The sums of each site, by measure: of the whole recording those of the report. */
  sum() {
    const { sites, timeline } = this.model;
    const { site, slice } = timeline.rows;
    this.sums = {};
    for (const name of MEASURES) {
      if (this.whole) {
        this.sums[name] = Float64Array.from(sites, (each) => each[name]);
        continue;
      }
      const sums = new Float64Array(sites.length);
      const values = timeline.rows[name];
      for (let at = 0; at < site.length; at += 1) {
        if (slice[at] >= this.from && slice[at] < this.to) sums[site[at]] += values[at];
      }
      this.sums[name] = sums;
    }
  }
}

/** The fragment of the address: `site`, and `from` and `to` where not all is chosen. */
const fragment = {
  read() {
    const told = new URLSearchParams(location.hash.slice(1));
    return { site: told.get("site"), from: told.get("from"), to: told.get("to") };
  },

  /** @param {string} target a section, or `site=ID` */
  link(target) {
    const [name, ...rest] = target.split("=");
    return rest.length ? `#${name}=${encodeURIComponent(rest.join("=")).replaceAll("%2F", "/")}` : `#${name}`;
  },

  /** @param {Range} range */
  write(range) {
    const { site } = fragment.read();
    const parts = [];
    if (site !== null) parts.push(fragment.link(`site=${site}`).slice(1));
    if (!range.whole) parts.push(`from=${range.from}`, `to=${range.to}`);
    if (parts.length || /^#(site|from)=/.test(location.hash)) {
      history.replaceState(null, "", parts.length ? `#${parts.join("&")}` : location.pathname + location.search);
    }
  },
};
