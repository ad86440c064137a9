package contract

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/blake2b"
)

// ID is the 16 bytes that stand for one identifier, as segments/model/identity.py makes them.
type ID [16]byte

const (
	maxTextChars = 256
	noDevice     = "00000000-0000-0000-0000-000000000000"
)

// UID is what a uid of an eid says that decides which id it is.
type UID struct {
	Source, ID, SType, Provider string
}

// IDs are the identifiers of one request, each once.
type IDs []ID

func (ids *IDs) add(id ID, ok bool) {
	if !ok {
		return
	}
	for _, held := range *ids {
		if held == id {
			return
		}
	}
	*ids = append(*ids, id)
}

// AddUID adds a uid if it is one that we look up.
func (ids *IDs) AddUID(uid UID, isChild bool) {
	switch source := lower(uid.Source); {
	case source == "liveintent.com":
		if id, ok := emailHash(uid.ID); ok {
			ids.add(id, true)
		} else {
			ids.add(eid(source, uid.ID))
		}
	case source == "fpid.liveintent.com":
		if !isChild {
			ids.add(hashed("duid:", uid.ID))
		}
	case uid.SType == "hemsha256" || uid.SType == "hemmd5" || uid.SType == "hemsha1":
		ids.add(emailHash(uid.ID))
	case uid.Provider == "liveintent.com":
		ids.add(eid(source, uid.ID))
	}
}

// AddEmailHash adds the hash of an e-mail address, if it is one.
func (ids *IDs) AddEmailHash(text string) {
	ids.add(emailHash(text))
}

// AddIFA adds a device id, unless it is none or the device limits tracking.
func (ids *IDs) AddIFA(ifa string, isLimited bool) {
	if len(ifa) != len(noDevice) || ifa == noDevice || isLimited {
		return
	}
	text := lower(ifa)
	for i := range len(text) {
		isDash := i == 8 || i == 13 || i == 18 || i == 23
		if isDash != (text[i] == '-') || !isDash && !isHex(text[i]) {
			return
		}
	}
	ids.add(hashed("ifa:", text))
}

func emailHash(text string) (id ID, ok bool) {
	if len(text) != 32 && len(text) != 40 && len(text) != 64 {
		return id, false
	}
	for i := 32; i < len(text); i++ {
		if !isHex(text[i]) {
			return id, false
		}
	}
	var digits [32]byte
	copy(digits[:], text)
	_, err := hex.Decode(id[:], digits[:])
	return id, err == nil
}

func eid(source, uid string) (id ID, ok bool) {
	if strings.Contains(source, ":") || !isText(source) || !isText(uid) {
		return id, false
	}
	return hashed("eid:"+source+":", uid)
}

func hashed(prefix, text string) (id ID, ok bool) {
	if !isText(text) {
		return id, false
	}
	hash, err := blake2b.New(len(id), nil)
	if err != nil {
		return id, false
	}
	hash.Write([]byte(prefix))
	hash.Write([]byte(text))
	hash.Sum(id[:0])
	return id, true
}

func isText(text string) bool {
	return text != "" && (len(text) <= maxTextChars || utf8.RuneCountInString(text) <= maxTextChars)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// lower does not allocate where there is nothing to do, which is the common case.
func lower(text string) string {
	for i := range len(text) {
		if c := text[i]; 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf {
			return strings.ToLower(text)
		}
	}
	return text
}
