// Writes the test vectors beside this file, with the encoders of the IAB Tech Lab:
//
//     npm install && npm run make
//
// gpp.jsonl.gz   GPP strings of random sections with random fields
// tcf.jsonl.gz   TC strings of random consents, and what the IAB's decoder reads of them: half have
//                the segment of disclosed vendors that TCF 2.3 made obligatory, some have
//                publishers' restrictions of hundreds of entries
//
// Run by hand, when an encoder has a new version; the tests read only the files.
// The random numbers are seeded, so that another run writes the same.

import { gzipSync } from "node:zlib";
import { writeFileSync } from "node:fs";
import { GppModel, Sections, UsNat } from "@iabgpp/cmpapi";
import {
  GVL, PurposeRestriction, RestrictionType, Segment, SegmentEncoder, TCModel, TCString,
} from "@iabtcf/core";

const GPP_STRINGS = 1600;
const TC_STRINGS = 1200;
const WHEN = new Date(Date.UTC(2026, 9, 1));
const BEFORE_TCF_23 = new Date(Date.UTC(2026, 1, 28));

let state = 20261124;
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const below = (n) => Math.floor(random() * n);
const choose = (list) => list[below(list.length)];
const chance = (p) => random() < p;

// US sections: what each field may be, as its own validator has it.

const VALUES = [0, 1, 2];
const QUIET = (name) => {
  if (/OptOutNotice$|LimitUseNotice$|SharingNotice|ProcessingNotice/.test(name)) return 1;
  if (/OptOut$/.test(name)) return 2;
  if (name === "MspaCoveredTransaction") return 2;
  return 0;
};
const usFieldsOf = (section) =>
  section.segments.flatMap((segment) =>
    segment.getFieldNames().map((name) => [name, segment.fields.get(name)]),
  );

function fillUs(gpp, name, section) {
  const fields = {};
  // One field off in most, so that one field's reading decides; anything goes in the others.
  const share = choose([0, 0.05, 0.15, 1]);
  for (const [field, type] of usFieldsOf(section)) {
    if (field === "Version") {
      const version = name === UsNat.NAME ? choose([1, 2]) : 1;
      gpp.setFieldValue(name, field, version);
      fields[field] = version;
    } else if (field === "MspaVersion") {
      fields[field] = 1;
    } else if (field === "GpcSegmentType" || field === "Gpc") {
      continue;
    } else {
      const draw = () => {
        const values = field === "MspaCoveredTransaction" ? [1, 2] : VALUES;
        return chance(share) ? choose(values) : QUIET(field);
      };
      let value = draw();
      if (type.numElements) {
        let length = type.numElements;
        if (name === UsNat.NAME && fields.Version === 1) {
          length = field === "SensitiveDataProcessing" ? 12 : 2;
        }
        value = Array.from({ length }, draw);
        // The encoder cuts the first version's lists from those of the second.
        const padded = [...value, ...Array(type.numElements - length).fill(0)];
        gpp.setFieldValue(name, field, padded);
      } else {
        gpp.setFieldValue(name, field, value);
      }
      fields[field] = value;
    }
  }
  const subsection = section.segments[1];
  const included = subsection && [...subsection.fields.fields.keys()].find((f) => /Included$/.test(f));
  if (included) {
    const isIncluded = chance(0.5);
    gpp.setFieldValue(name, included, isIncluded);
    if (included.startsWith("Gpc")) {
      const gpc = isIncluded && chance(0.4);
      if (isIncluded) gpp.setFieldValue(name, "Gpc", gpc);
      fields.Gpc = isIncluded ? gpc : null;
    }
  }
  return fields;
}

function fillUsp(gpp) {
  const fields = { Version: 1 };
  for (const field of ["Notice", "OptOutSale", "LspaCovered"]) {
    fields[field] = choose(["Y", "N", "-"]);
    gpp.setFieldValue("uspv1", field, fields[field]);
  }
  gpp.setFieldValue("uspv1", "Version", 1);
  return fields;
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const vendorIds = () => {
  const ids = new Set(range(1, choose([40, 200, 900])).filter(() => chance(choose([0.02, 0.5, 0.97]))));
  if (chance(0.6)) ids.add(148);
  if (chance(0.2)) range(140, 160).forEach((id) => ids.add(id));
  return [...ids].sort((a, b) => a - b);
};
const purposeIds = () =>
  range(1, 24).filter((id) => (id <= 11 ? chance(0.9) : chance(0.1)));
const bitsOf = (ids, length) => range(1, length).map((id) => ids.includes(id));

function fillTcf(gpp) {
  const purposes = purposeIds();
  const vendors = vendorIds();
  gpp.setFieldValue("tcfeuv2", "IsServiceSpecific", true);
  gpp.setFieldValue("tcfeuv2", "PurposeConsents", bitsOf(purposes, 24));
  gpp.setFieldValue("tcfeuv2", "VendorConsents", vendors);
  gpp.setFieldValue("tcfeuv2", "VendorLegitimateInterests", vendorIds());
  const disclosed = vendorIds();
  gpp.setFieldValue("tcfeuv2", "VendorsDisclosed", disclosed);
  gpp.setFieldValue("tcfeuv2", "Created", WHEN);
  return { purposes, has148: vendors.includes(148), discloses148: disclosed.includes(148) };
}

function fillCanada(gpp) {
  gpp.setFieldValue("tcfcav1", "Created", WHEN);
  gpp.setFieldValue("tcfcav1", "LastUpdated", WHEN);
  return {};
}

function makeGpp() {
  const vectors = [];
  const ids = [...Sections.SECTION_ID_NAME_MAP.keys()];
  for (let i = 0; i < GPP_STRINGS; i++) {
    const gpp = new GppModel();
    const count = choose([1, 1, 2, 3, 5, chance(0.1) ? ids.length : 1]);
    const chosen = new Set([ids[i % ids.length]]);
    const start = below(ids.length);
    const isRun = chance(0.4);
    for (let n = 1; n < count; n++) chosen.add(isRun ? ids[(start + n) % ids.length] : choose(ids));
    const sections = {};
    for (const id of [...chosen].sort((a, b) => a - b)) {
      const name = Sections.SECTION_ID_NAME_MAP.get(id);
      if (id === 2) sections[id] = fillTcf(gpp);
      else if (id === 5) sections[id] = fillCanada(gpp);
      else if (id === 6) sections[id] = fillUsp(gpp);
      else {
        gpp.setFieldValue(name, id < 24 ? "Version" : "MspaVersion", 1);
        sections[id] = fillUs(gpp, name, gpp.getSection(name) && gpp.sections.get(name));
      }
    }
    vectors.push([gpp.encode(), sections]);
  }
  return vectors;
}

// TC strings.

const purposes = Object.fromEntries(range(1, 11).map((id) => [id, { id, name: "", description: "", illustrations: [] }]));
const vendor = (id) => ({
  id, name: `v${id}`, purposes: range(1, 11).filter((p) => p !== 2), legIntPurposes: [2],
  flexiblePurposes: range(2, 11), specialPurposes: [], features: [], specialFeatures: [], policyUrl: "",
  usesCookies: true, cookieMaxAgeSeconds: 1, cookieRefresh: false, usesNonCookieAccess: false,
});
const gvlOf = (count) => new GVL({
  gvlSpecificationVersion: 3, vendorListVersion: 90, tcfPolicyVersion: 5, lastUpdated: WHEN.toISOString(),
  purposes, specialPurposes: {}, features: {}, specialFeatures: {}, stacks: {}, dataCategories: {},
  vendors: Object.fromEntries(range(1, count).map((id) => [id, vendor(id)])),
});
const gvls = [200, 900].map(gvlOf);

function makeTcf() {
  const vectors = [];
  for (let i = 0; i < TC_STRINGS; i++) {
    const gvl = choose(gvls);
    const model = new TCModel(gvl);
    const last = Object.keys(gvl.vendors).length;
    model.cmpId = 31;
    model.cmpVersion = 2;
    model.isServiceSpecific = true;
    model.publisherCountryCode = choose(["DE", "FR", "AA"]);
    model.purposeConsents.set(purposeIds());
    model.vendorConsents.set(vendorIds().filter((id) => id <= last));
    model.vendorLegitimateInterests.set(vendorIds().filter((id) => id <= last));
    if (chance(0.35)) {
      for (let n = 1 + below(6); n > 0; n--) {
        const type = choose([RestrictionType.NOT_ALLOWED, RestrictionType.REQUIRE_CONSENT, RestrictionType.REQUIRE_LI]);
        const restriction = new PurposeRestriction(2 + below(10), type);
        const from = 1 + below(last);
        for (const id of chance(0.4) ? [148] : range(from, Math.min(last, from + below(60)))) {
          model.publisherRestrictions.add(id, restriction);
        }
      }
    }
    if (chance(0.1)) {
      const restriction = new PurposeRestriction(7, RestrictionType.NOT_ALLOWED);
      for (let id = 150; id <= last; id += 2) model.publisherRestrictions.add(id, restriction);
    }
    model.created = model.lastUpdated = choose([WHEN, BEFORE_TCF_23]);
    // TCString.encode discloses the whole list, and of a string of one service nobody.
    const core = TCString.encode(model);
    model.vendorsDisclosed.empty();
    model.vendorsDisclosed.set(vendorIds().filter((id) => id <= last));
    const segment = SegmentEncoder.encode(model, Segment.VENDORS_DISCLOSED);
    const isDisclosing = chance(0.6);
    const text = isDisclosing ? `${core}.${segment}` : core;
    const read = TCString.decode(text);
    const probes = {};
    for (const id of [148, 1, 2 + below(last), last, last + 1]) {
      probes[id] = [
        read.vendorConsents.has(id),
        read.publisherRestrictions.getRestrictions(id).map((r) => [r.purposeId, r.restrictionType]),
        isDisclosing ? read.vendorsDisclosed.has(id) : null,
      ];
    }
    const consented = range(1, 24).filter((id) => read.purposeConsents.has(id));
    vectors.push([text, consented, probes, read.created.getTime() / 100]);
  }
  return vectors;
}

for (const [name, vectors] of [["gpp", makeGpp()], ["tcf", makeTcf()]]) {
  const lines = vectors.map((v) => JSON.stringify(v)).join("\n") + "\n";
  writeFileSync(new URL(`${name}.jsonl.gz`, import.meta.url), gzipSync(lines, { level: 9 }));
  console.log(name, vectors.length, lines.length);
}
