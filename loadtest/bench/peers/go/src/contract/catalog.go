package contract

import (
	"encoding/json"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/gomodule/redigo/redis"
)

const (
	prefix   = "seg:1:{catalog}:"
	refreshS = 500 * time.Millisecond
)

// Partner is one that owns segments, with the JSON that stands around them.
type Partner struct {
	ID         string
	Segtax     string // in digits, empty if it has none: a Data of another one is another's
	Head, Tail []byte // `{"id":"9001","name":"...","segment":[` and what closes it
}

// Audience is what an answer needs of it.
type Audience struct {
	Partner   *Partner
	SegmentID string
	Segment   []byte // `{"id":"123"}`
	ownerID   uint32
}

// audiences are those that one caller may see, by the number that records hold.
type audiences []*Audience

type catalog struct {
	version    string
	everyone   audiences
	recipients map[string]audiences
}

type audienceEntry struct {
	ID        uint32 `json:"id"`
	OwnerID   uint32 `json:"owner_id"`
	PartnerID uint32 `json:"partner_id"`
	SegmentID string `json:"segment_id"`
	IsActive  bool   `json:"is_active"`
}

type accountEntry struct {
	ID       uint32 `json:"id"`
	PublicID string `json:"public_id"`
	Name     string `json:"name"`
	IsActive bool   `json:"is_active"`
	Segtax   *int   `json:"segtax"`
}

type recipientEntry struct {
	Name       string   `json:"name"`
	IsActive   bool     `json:"is_active"`
	PartnerIDs []uint32 `json:"partner_ids"`
}

func (s *Store) readCatalog() (*catalog, error) {
	conn := s.pool.Get()
	defer conn.Close()
	version, err := readVersion(conn)
	if err != nil {
		return nil, err
	}
	audienceEntries, err := read[audienceEntry](conn, "audiences")
	if err != nil {
		return nil, err
	}
	accountEntries, err := read[accountEntry](conn, "accounts")
	if err != nil {
		return nil, err
	}
	recipientEntries, err := read[recipientEntry](conn, "recipients")
	if err != nil {
		return nil, err
	}
	accounts := map[uint32]accountEntry{}
	for _, account := range accountEntries {
		if account.IsActive {
			accounts[account.ID] = account
		}
	}
	partners := map[uint32]*Partner{}
	read := &catalog{version: version, recipients: map[string]audiences{}}
	for _, entry := range audienceEntries {
		account, isActive := accounts[entry.PartnerID]
		if _, isOwned := accounts[entry.OwnerID]; !entry.IsActive || !isActive || !isOwned {
			continue
		}
		if partners[account.ID] == nil {
			partners[account.ID] = newPartner(account)
		}
		segment := fmt.Appendf(nil, `{"id":%s}`, quoted(entry.SegmentID))
		read.everyone = read.everyone.with(entry.ID, &Audience{
			partners[account.ID], entry.SegmentID, segment, entry.OwnerID,
		})
	}
	for _, recipient := range recipientEntries {
		if !recipient.IsActive {
			continue
		}
		granted := map[*Partner]bool{}
		for _, id := range recipient.PartnerIDs {
			granted[partners[id]] = true
		}
		shown := make(audiences, len(read.everyone))
		for id, audience := range read.everyone {
			if audience != nil && granted[audience.Partner] {
				shown[id] = audience
			}
		}
		read.recipients[recipient.Name] = shown
	}
	return read, nil
}

// follow keeps the catalog fresh beside the requests.
func (e *Enricher) follow() {
	for range time.Tick(refreshS) {
		conn := e.store.pool.Get()
		version, err := readVersion(conn)
		conn.Close()
		if err == nil && version == e.catalog.Load().version {
			continue
		}
		fresh, err := e.store.readCatalog()
		if err != nil {
			log.Print("the catalog can't be read: ", err)
			continue
		}
		e.catalog.Store(fresh)
	}
}

func (a audiences) with(id uint32, audience *Audience) audiences {
	for int(id) >= len(a) {
		a = append(a, nil)
	}
	a[id] = audience
	return a
}

func newPartner(account accountEntry) *Partner {
	head := fmt.Appendf(nil, `{"id":%s,"name":%s,"segment":[`, quoted(account.PublicID), quoted(account.Name))
	segtax, tail := "", []byte("]}")
	if account.Segtax != nil {
		segtax = strconv.Itoa(*account.Segtax)
		tail = []byte(`],"ext":{"segtax":` + segtax + "}}")
	}
	return &Partner{account.PublicID, segtax, head, tail}
}

func readVersion(conn redis.Conn) (string, error) {
	version, err := redis.String(conn.Do("GET", prefix+"version"))
	if err == redis.ErrNil {
		return "", nil
	}
	return version, err
}

func read[Entry any](conn redis.Conn, name string) ([]Entry, error) {
	values, err := redis.ByteSlices(conn.Do("HVALS", prefix+name))
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(values))
	for i, value := range values {
		if err := json.Unmarshal(value, &entries[i]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func quoted(text string) []byte {
	spelled, _ := json.Marshal(text) // a string can always be written
	return spelled
}
