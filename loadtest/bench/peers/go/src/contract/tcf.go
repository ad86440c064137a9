package contract

import (
	"encoding/binary"
	"strings"
)

// What we ask of a TC string, as a bid listener of ours does by default: vendor 148, purposes 1, 3
// and 4 of the 24, and that it says who was disclosed if it was created since 1 March 2026.
const (
	vendor          = 148
	purposes        = 1<<23 | 1<<21 | 1<<20
	disclosedFromDS = 17_723_232_000

	maxTCChars      = 16_384
	maxRestrictions = 256
	tcVersion       = 2
	leastCoreBytes  = 33
	consentsAt      = 213
	requireConsent  = 1
	noVendor        = -1
	nowhere         = 1 << 32
	// Room for the usual string: a longer one goes to the heap.
	usualCoreBytes = 1_024
)

// permitsTCF reads a TC string of version 2, as rtb/consent/tcf.py does.
func permitsTCF(text string) bool {
	if len(text) > maxTCChars {
		return false
	}
	text, segments, _ := strings.Cut(text, ".")
	var room [usualCoreBytes]byte
	core, ok := unfold(room[:0], text)
	if !ok || len(core) < leastCoreBytes || core[0]>>2 != tcVersion {
		return false
	}
	if bits(core, 152, 24)&purposes != purposes {
		return false
	}
	said := 6 * len(text)
	isNamed, at := vendors(core, consentsAt, said, vendor)
	if !isNamed || at > said || !permitRestrictions(core, at, said) {
		return false
	}
	return permitSegments(segments, binary.BigEndian.Uint64(core)>>22&(1<<36-1))
}

// vendors reads a list of vendors; its end lies behind the bits that were said if it is not whole.
func vendors(data []byte, at, said, number int) (isNamed bool, end int) {
	if at+17 > said {
		return false, nowhere
	}
	head := int(bits(data, at, 17))
	last := head >> 1
	at += 17
	if head&1 != 0 {
		if at+12 > said {
			return false, nowhere
		}
		if number > last {
			number = noVendor
		}
		return entries(data, at+12, said, int(bits(data, at, 12)), number)
	}
	bit := at + number - 1
	isNamed = number > 0 && number <= last && bit < said && data[bit>>3]<<(bit&7)&0x80 != 0
	return isNamed, at + last
}

func entries(data []byte, at, said, count, number int) (isNamed bool, end int) {
	for range count {
		if at+17 > said {
			return false, nowhere
		}
		entry := int(bits(data, at, 17))
		first, last := entry&0xFFFF, entry&0xFFFF
		at += 17
		if entry>>16 != 0 {
			if at+16 > said {
				return false, nowhere
			}
			last = int(bits(data, at, 16))
			at += 16
			if first > last {
				return false, nowhere
			}
		}
		isNamed = isNamed || first <= number && number <= last
	}
	return isNamed, at
}

func permitRestrictions(core []byte, at, said int) bool {
	_, at = vendors(core, at, said, noVendor) // of legitimate interest
	if at+12 > said {
		return false
	}
	count := int(bits(core, at, 12))
	at += 12
	if count > maxRestrictions {
		return false
	}
	permits := true
	for range count {
		if at+20 > said {
			return false
		}
		restriction := bits(core, at, 20)
		purpose, kind := restriction>>14, restriction>>12&3
		number := noVendor
		if kind != requireConsent && purposes<<purpose&(1<<24) != 0 {
			number = vendor
		}
		var isNamed bool
		isNamed, at = entries(core, at+20, said, int(restriction&0xFFF), number)
		permits = permits && !isNamed
	}
	return permits && at <= said
}

func permitSegments(segments string, createdDS uint64) bool {
	isThere := false
	for segments != "" {
		var segment string
		segment, segments, _ = strings.Cut(segments, ".")
		if segment == "" {
			continue
		}
		kind := sextets[segment[0]] >> 3 // 16 and more: no base64
		if kind == 0 || kind >= 8 {
			return false
		}
		if kind != 1 {
			continue
		}
		isThere = true
		var room [usualCoreBytes]byte
		disclosed, ok := unfold(room[:0], segment)
		said := 6 * len(segment)
		isNamed, end := vendors(disclosed, 3, said, vendor)
		if !ok || !isNamed || end > said {
			return false
		}
	}
	return isThere || createdDS < disclosedFromDS
}
