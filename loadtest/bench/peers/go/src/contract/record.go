package contract

import "errors"

const (
	everyone     = 0
	header       = 1 << 4
	hasOptOuts   = 1
	epochAtS     = 1_577_836_800
	secondsADay  = 86_400
	maxVarintLen = 5
)

var errCorrupt = errors.New("a record that is not one of layout 1")

// record is what the store holds of one id: see segments/model/record.py.
type record struct {
	optOuts   []uint32
	audiences []uint32 // that hold today
}

// unpack appends to what `into` holds already, so that the records of one person are one.
func unpack(raw []byte, today int64, into *record) error {
	if len(raw) == 0 || raw[0]&^hasOptOuts != header {
		return errCorrupt
	}
	at := 1
	if raw[0]&hasOptOuts != 0 {
		count, n := varint(raw[at:])
		if n == 0 {
			return errCorrupt
		}
		at += n
		for range count {
			if at >= len(raw) {
				return errCorrupt
			}
			account, n := varint(raw[at+1:])
			if n == 0 {
				return errCorrupt
			}
			at += 1 + n
			into.optOuts = append(into.optOuts, account)
		}
	}
	for at < len(raw) {
		audience, n := varint(raw[at:])
		at += n
		if n == 0 || at+2 > len(raw) {
			return errCorrupt
		}
		expiryDay := int64(raw[at]) | int64(raw[at+1])<<8
		at += 2
		if expiryDay == 0 || expiryDay >= today {
			into.audiences = append(into.audiences, audience)
		}
	}
	return nil
}

// varint reads LEB128; no bytes read where it is cut short or too long.
func varint(raw []byte) (number uint32, n int) {
	for n < len(raw) && n < maxVarintLen {
		c := raw[n]
		number |= uint32(c&0x7F) << (7 * n)
		n++
		if c < 0x80 {
			return number, n
		}
	}
	return 0, 0
}
