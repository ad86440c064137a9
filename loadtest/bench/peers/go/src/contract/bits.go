package contract

import "encoding/binary"

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

const notBase64 = 0x80

// sextets has the six bits of each character of base64url, and notBase64 for the others.
var sextets = func() (table [256]uint8) {
	for c := range table {
		table[c] = notBase64
	}
	for bits, c := range []byte(alphabet) {
		table[c] = uint8(bits)
	}
	return table
}()

// unfold appends the bits of base64url text, filled up with zeros to whole groups of three bytes.
func unfold(into []byte, text string) (data []byte, ok bool) {
	var seen uint8
	for ; len(text) >= 4; text = text[4:] {
		a, b, c, d := sextets[text[0]], sextets[text[1]], sextets[text[2]], sextets[text[3]]
		seen |= a | b | c | d
		into = append(into, a<<2|b>>4, b<<4|c>>2, c<<6|d)
	}
	if len(text) > 0 {
		var last [4]uint8
		for i := range len(text) {
			last[i] = sextets[text[i]]
			seen |= last[i]
		}
		into = append(into, last[0]<<2|last[1]>>4, last[1]<<4|last[2]>>2, last[2]<<6)
	}
	return into, seen&notBase64 == 0
}

// bits reads a number of at most 32 bits; those behind the end are zeros.
func bits(data []byte, at, count int) uint32 {
	from := at >> 3
	if from+8 <= len(data) {
		return uint32(binary.BigEndian.Uint64(data[from:]) << (at & 7) >> (64 - count))
	}
	var window [8]byte
	if from < len(data) {
		copy(window[:], data[from:])
	}
	return uint32(binary.BigEndian.Uint64(window[:]) << (at & 7) >> (64 - count))
}
