package contract

import "strings"

const (
	maxGPPChars     = 24_576
	maxSections     = 32
	maxSectionID    = 63
	leastHeader     = 4
	maxHeader       = 64
	fibonacciBits   = 9
	sectionTCF      = 2
	sectionUSP      = 6
	sectionNational = 7
)

var fibonacci = [fibonacciBits]int{1, 2, 3, 5, 8, 13, 21, 34, 55}

// knownSections are those with a rule, as bits; header and signal integrity (3, 4) are no laws.
var knownSections = func() uint64 {
	known := uint64(1<<sectionTCF | 1<<sectionUSP)
	for id := range usRules {
		if usRules[id][0] != nil {
			known |= 1 << id
		}
	}
	return known
}()

const noLaws = 1<<0 | 1<<3 | 1<<4

// AddSID notes a section that is said to apply; -1, as 0, is that none does.
func (s *Signals) AddSID(id float64) {
	s.hasSID = true
	if id == -1 {
		return
	}
	if id < 0 || id > maxSectionID || id != float64(int(id)) {
		s.hasUnknownSID = true
		return
	}
	s.sids |= 1 << int(id) &^ noLaws
}

func (s *Signals) refuseByGPP() bool {
	if s.hasUnknownSID || s.sids&^knownSections != 0 {
		return true
	}
	if s.sids == 0 && s.hasSID {
		return false
	}
	isMissing := s.sids != 0
	for i, text := range s.GPP {
		if text == "" || i > 0 && text == s.GPP[0] {
			continue
		}
		isMissing = false
		if !permitsGPP(text, s.sids) {
			return true
		}
	}
	return isMissing
}

// permitsGPP reads the sections that are wanted, given as bits; all laws of the string if none is.
func permitsGPP(text string, wanted uint64) bool {
	if len(text) > maxGPPChars {
		return false
	}
	header, sections, _ := strings.Cut(text, "~")
	var room [maxSectionID + 1]uint8
	ids, ok := idsInHeader(room[:0], header)
	if !ok || min(strings.Count(text, "~"), maxSections) != len(ids) {
		return false
	}
	if wanted == 0 {
		for _, id := range ids {
			wanted |= 1 << id
		}
		wanted &^= noLaws
		if wanted&^knownSections != 0 {
			return false
		}
	}
	for i, id := range ids {
		section := sections
		if i < maxSections-1 {
			section, sections, _ = strings.Cut(sections, "~")
		}
		if wanted>>id&1 == 0 {
			continue
		}
		wanted &^= 1 << id
		if section == "" || !permitsSection(id, section) {
			return false
		}
	}
	return wanted == 0
}

func permitsSection(id uint8, section string) bool {
	switch id {
	case sectionTCF:
		return permitsTCF(section)
	case sectionUSP:
		return isUSPrivacy(section) && section[2] != 'Y' && section[2] != 'y'
	default:
		return permitsUS(id, section)
	}
}

func idsInHeader(into []uint8, header string) (ids []uint8, ok bool) {
	if len(header) < leastHeader || len(header) > maxHeader || header[:2] != "DB" {
		return nil, false
	}
	var room [maxHeader]byte
	data, ok := unfold(room[:0], header)
	count := int(bits(data, 12, 12))
	if !ok || count > maxSections {
		return nil, false
	}
	last, at := 0, 24
	for range count {
		isRange := bits(data, at, 1) == 1
		var first, length int
		if first, at = readFibonacci(data, at+1); first == 0 {
			return nil, false
		}
		first += last
		last = first
		if isRange {
			if length, at = readFibonacci(data, at); length == 0 {
				return nil, false
			}
			last += length
		}
		if last > maxSectionID {
			return nil, false
		}
		for id := first; id <= last; id++ {
			into = append(into, uint8(id))
		}
	}
	for ; at < 8*len(data); at++ {
		if bits(data, at, 1) == 1 {
			return nil, false
		}
	}
	return into, true
}

// readFibonacci returns a number and its end; 0 is none.
func readFibonacci(data []byte, at int) (number, end int) {
	for i := range fibonacciBits {
		if bits(data, at+i, 1) == 0 {
			continue
		}
		number += fibonacci[i]
		if bits(data, at+i+1, 1) == 1 {
			return number, at + i + 2
		}
	}
	return 0, at
}
