// Package contract is what both Go peers do alike: everything but HTTP and the JSON of a bid
// request. It is the contract of loadtest/bench/peers/aiohttp_redis.py, and besides the decoding of
// TC and GPP strings, with the same refusals as ours by default.
package contract

import (
	"flag"
	"log"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxIDs      = 10
	connections = 64
	// One core, a heap of a few MB: collecting at four times of it costs memory that nobody misses.
	gcPercent = 400
)

// Signals are what a request says of its own person's will; docs/field.md, "Consent".
type Signals struct {
	Coppa, LMT    bool
	GPC           string
	USPrivacy     [2]string // regs, regs.ext
	IsGDPR        bool      // either says 1
	IsNotGDPR     bool      // either says 0
	Consent       [2]string // user, user.ext
	GPP           [2]string // regs, regs.ext
	sids          uint64    // the sections that apply, as bits
	hasSID        bool      // it is said which sections apply, be it that none does
	hasUnknownSID bool
}

// Addition is what one partner has to say of a person.
type Addition struct {
	Partner  *Partner
	Segments []*Audience // each segment id once
}

// Question is a bid request once it is read.
type Question struct {
	IDs     IDs
	Signals Signals
	TMaxMS  float64 // 0 where it is not said
}

// Enricher decides, and keeps what it needs for that between requests.
type Enricher struct {
	store   *Store
	catalog atomic.Pointer[catalog]
	cap     time.Duration
	share   float64
	records sync.Pool
}

// Options are those of the command line.
type Options struct {
	Addr      string
	Cert, Key string // files of TLS; empty: none
}

// Start reads the command line and the catalog, and begins to follow it.
func Start() (*Enricher, Options) {
	port := flag.String("port", "", "where to listen, on the loopback")
	url := flag.String("store-url", "", "unix:///PATH of the store")
	capMS := flag.Float64("deadline-ms", 20, "how long a request may take")
	share := flag.Float64("tmax-share", 0.1, "... and that share of its tmax")
	cert := flag.String("tls-cert", "", "serve TLS with this certificate")
	key := flag.String("tls-key", "", "... and its key")
	flag.Parse()
	debug.SetGCPercent(gcPercent)
	store, err := DialStore(*url, connections)
	if err != nil {
		log.Fatal("the store can't be read: ", err)
	}
	e := &Enricher{store: store, cap: milliseconds(*capMS), share: *share}
	e.records.New = func() any { return new(record) }
	fresh, err := store.readCatalog()
	if err != nil {
		log.Fatal("the catalog can't be read: ", err)
	}
	e.catalog.Store(fresh)
	go e.follow()
	return e, Options{"127.0.0.1:" + *port, *cert, *key}
}

// Knows says whether there is such a recipient; the empty one is the trusted caller.
func (e *Enricher) Knows(recipient string) bool {
	return recipient == "" || e.catalog.Load().recipients[recipient] != nil
}

// Decide looks the persons up and says what to add, or the outcome where that is nothing.
func (e *Enricher) Decide(q *Question, recipient string) (additions []Addition, outcome string) {
	if len(q.IDs) == 0 {
		return nil, "no_identity"
	}
	if len(q.IDs) > maxIDs || q.Signals.refuse() {
		return nil, "no_consent"
	}
	within := e.cap
	if q.TMaxMS > 0 {
		within = min(within, milliseconds(q.TMaxMS*e.share))
	}
	found, err := e.store.Lookup(q.IDs, within)
	if err != nil {
		return nil, outcomeOf(err)
	}
	held := e.records.Get().(*record)
	defer e.records.Put(held)
	held.optOuts, held.audiences = held.optOuts[:0], held.audiences[:0]
	today := (time.Now().Unix() - epochAtS) / secondsADay
	for _, raw := range found {
		if raw == nil {
			continue
		}
		if err := unpack(raw, today, held); err != nil {
			return nil, "store_down"
		}
	}
	if slices.Contains(held.optOuts, everyone) {
		return nil, "opted_out"
	}
	additions = shown(held, e.audiencesOf(recipient))
	if len(additions) == 0 {
		return nil, "no_match"
	}
	return additions, "enriched"
}

func (e *Enricher) audiencesOf(recipient string) audiences {
	if recipient == "" {
		return e.catalog.Load().everyone
	}
	return e.catalog.Load().recipients[recipient]
}

func shown(held *record, visible audiences) (additions []Addition) {
	for _, id := range held.audiences {
		if int(id) >= len(visible) || visible[id] == nil {
			continue
		}
		audience := visible[id]
		if slices.Contains(held.optOuts, audience.ownerID) {
			continue
		}
		at := slices.IndexFunc(additions, func(a Addition) bool { return a.Partner == audience.Partner })
		if at < 0 {
			at = len(additions)
			segments := make([]*Audience, 0, len(held.audiences))
			additions = append(additions, Addition{audience.Partner, segments})
		}
		isSame := func(a *Audience) bool { return a.SegmentID == audience.SegmentID }
		if !slices.ContainsFunc(additions[at].Segments, isSame) {
			additions[at].Segments = append(additions[at].Segments, audience)
		}
	}
	return additions
}

func (s *Signals) refuse() bool {
	if s.Coppa || s.LMT || s.GPC == "1" {
		return true
	}
	for _, said := range s.USPrivacy {
		if said != "" && (!isUSPrivacy(said) || said[2] == 'Y' || said[2] == 'y') {
			return true
		}
	}
	return s.refuseByGDPR() || s.refuseByGPP()
}

func (s *Signals) refuseByGDPR() bool {
	if s.IsNotGDPR && !s.IsGDPR {
		return false
	}
	isMissing := s.IsGDPR
	for i, text := range s.Consent {
		if text == "" || i > 0 && text == s.Consent[0] {
			continue
		}
		isMissing = false
		if !permitsTCF(text) {
			return true
		}
	}
	return isMissing
}

func isUSPrivacy(said string) bool {
	if len(said) != 4 || said[0] != '1' {
		return false
	}
	for _, c := range []byte(said[1:]) {
		if c != 'Y' && c != 'y' && c != 'N' && c != 'n' && c != '-' {
			return false
		}
	}
	return true
}

func milliseconds(ms float64) time.Duration {
	return time.Duration(ms * float64(time.Millisecond))
}
