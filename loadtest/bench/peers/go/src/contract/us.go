package contract

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// fields are those of a section, two bits each behind six of the version, from the highest bit on.
// In a mask, a field is its lower bit.
type fields struct{ hi, lo uint64 }

func bitAt(at int) fields {
	if at < 64 {
		return fields{hi: 1 << (63 - at)}
	}
	return fields{lo: 1 << (127 - at)}
}

func (f fields) and(o fields) fields    { return fields{f.hi & o.hi, f.lo & o.lo} }
func (f fields) or(o fields) fields     { return fields{f.hi | o.hi, f.lo | o.lo} }
func (f fields) andNot(o fields) fields { return fields{f.hi &^ o.hi, f.lo &^ o.lo} }
func (f fields) halved() fields         { return fields{f.hi >> 1, f.lo>>1 | f.hi<<63} }
func (f fields) isAny() bool            { return f.hi|f.lo != 0 }

// usRule is what rtb/consent/us.py refuses in one version of a section.
type usRule struct {
	leastChars         int
	filling            fields // behind the last field
	read, covered      fields // never 3; never 0
	refusedAt1, at2    fields
	pairs              [][2]fields // a notice, and the opt-out that needs it where it is 2
	hasGPC, hasSpecial bool        // the subsection that may follow
}

const (
	fillingChars = 4 // encoders fill up to 6, 8 or 24 bits
	child        = "Child"
	covered      = "Covered"
)

var refusing = map[string][2]bool{ // at 1, at 2
	"ServiceProvider": {true, false}, "Mode": {false, true},
	"SaleOptOut": {true, false}, "SharingOptOut": {true, false}, "TargetedOptOut": {true, false},
	"Notice": {false, true}, "SharingNotice": {false, true}, "SaleNotice": {false, true},
	"SharingOptOutNotice": {false, true}, "TargetedNotice": {false, true},
	child: {true, true}, "Personal": {true, true},
}

var noticeAndOptOut = [][2]string{
	{"SaleNotice", "SaleOptOut"}, {"SharingOptOutNotice", "SharingOptOut"},
	{"SharingNotice", "SharingOptOut"}, {"TargetedNotice", "TargetedOptOut"},
}

const (
	optOuts  = "SaleNotice TargetedNotice SaleOptOut TargetedOptOut "
	mspa     = " Covered OptOutMode ServiceProvider"
	national = "SharingNotice SaleNotice SharingOptOutNotice TargetedNotice -*2 SaleOptOut SharingOptOut TargetedOptOut "
	headed   = "Covered Mode Notice " + optOuts
)

func early(sensitive, children string) string {
	return "SharingNotice " + optOuts + "-*" + sensitive + " Child*" + children + mspa
}

func later(sensitive, children string) string {
	return "Notice " + optOuts + "-*" + sensitive + " Child*" + children + " Personal" + mspa
}

// usRules are by section and version; layouts as in rtb/consent/us_sections.py.
var usRules = func() (rules [maxSectionID + 1][2]*usRule) {
	put := func(id, version int, core string, hasGPC, hasSpecial bool) {
		rules[id][version-1] = newUSRule(id, core, hasGPC, hasSpecial)
	}
	put(7, 1, national+"-*12 Child*2 Personal"+mspa, true, false)
	put(7, 2, national+"-*16 Child*3 Personal"+mspa, true, false)
	put(8, 1, "SaleNotice SharingOptOutNotice - SaleOptOut SharingOptOut -*9 Child*2 Personal"+mspa, true, false)
	put(9, 1, early("8", "1"), false, false)
	put(10, 1, early("7", "1"), true, false)
	put(11, 1, "SharingNotice SaleNotice TargetedNotice - SaleOptOut TargetedOptOut -*8 Child"+mspa, false, false)
	put(12, 1, early("8", "3"), true, false)
	put(13, 1, later("8", "3"), false, false)
	put(14, 1, "Sharing"+later("8", "3"), true, false)
	put(15, 1, later("11", "3"), true, false)
	put(16, 1, later("8", "1"), true, false)
	put(17, 1, later("9", "5"), true, false)
	put(18, 1, "Notice SaleNotice TargetedNotice - SaleOptOut TargetedOptOut -*8 Child"+mspa, true, false)
	put(19, 1, later("8", "1"), true, false)
	put(20, 1, later("8", "3"), true, false)
	put(21, 1, later("10", "5"), true, false)
	put(22, 1, later("8", "1"), true, false)
	put(23, 1, later("8", "1"), true, false)
	put(24, 1, headed+"Personal", true, false)
	for id := 25; id <= 27; id++ {
		put(id, 1, headed+"Child Personal", false, true)
	}
	return rules
}()

func newUSRule(id int, core string, hasGPC, hasSpecial bool) *usRule {
	rule := &usRule{hasGPC: hasGPC, hasSpecial: hasSpecial}
	at := 6
	places := map[string]fields{}
	children := 0
	for _, word := range strings.Fields(core) {
		name, times, isMany := strings.Cut(word, "*")
		count := 1
		if isMany {
			count, _ = strconv.Atoi(times)
		}
		for range count {
			place, values := bitAt(at+1), refusing[name]
			if name == child {
				children++
				// Who is 13 to 16, or 16 to 17, may consent by the national section.
				values[1] = values[1] && (id != sectionNational || children == 2)
			}
			if values[0] {
				rule.refusedAt1 = rule.refusedAt1.or(place)
			}
			if values[1] {
				rule.at2 = rule.at2.or(place)
			}
			places[name] = place
			at += 2
		}
	}
	rule.covered = places[covered]
	rule.read = rule.refusedAt1.or(rule.at2).or(rule.covered)
	for _, pair := range noticeAndOptOut {
		notice, optOut := places[pair[0]], places[pair[1]]
		if notice.isAny() && optOut.isAny() {
			rule.pairs = append(rule.pairs, [2]fields{notice, optOut})
		}
	}
	rule.leastChars = (at + 5) / 6
	for ; at < 128; at++ {
		rule.filling = rule.filling.or(bitAt(at))
	}
	return rule
}

func permitsUS(id uint8, text string) bool {
	core, subsection, hasSubsection := strings.Cut(text, ".")
	if core == "" || core[0] != 'B' && core[0] != 'C' {
		return false
	}
	rule := usRules[id][core[0]-'B']
	if rule == nil || len(core) < rule.leastChars || len(core) > rule.leastChars+fillingChars {
		return false
	}
	if hasSubsection && !rule.permitsSubsection(subsection) {
		return false
	}
	var room [16]byte
	if _, ok := unfold(room[:0], core); !ok {
		return false
	}
	said := fields{binary.BigEndian.Uint64(room[:8]), binary.BigEndian.Uint64(room[8:])}
	// Encoders of 2024 wrote version 2 of the national section under the name of version 1.
	if id == sectionNational && core[0] == 'B' && len(core) >= 12 {
		return len(core) == 12 && usRules[id][1].permits(said, true) && rule.permits(said, false)
	}
	return rule.permits(said, true)
}

func (r *usRule) permits(low fields, isFilled bool) bool {
	if isFilled && low.and(r.filling).isAny() {
		return false
	}
	high := low.halved()
	said := low.or(high)
	if low.and(high).and(r.read).isAny() || r.covered.andNot(said).isAny() {
		return false
	}
	if low.and(r.refusedAt1).isAny() || high.and(r.at2).isAny() {
		return false
	}
	for _, pair := range r.pairs {
		if high.and(pair[1]).isAny() && !said.and(pair[0]).isAny() {
			return false
		}
	}
	return true
}

func (r *usRule) permitsSubsection(text string) bool {
	switch {
	case r.hasGPC: // type 1, and no objection
		return len(text) > 0 && len(text) <= 4 && text[0] == 'Q' && text[1:] == "AAA"[:len(text)-1]
	case r.hasSpecial && len(text) > 0 && len(text) <= 8:
		var room [8]byte
		_, ok := unfold(room[:0], text)
		return ok
	default:
		return false
	}
}
