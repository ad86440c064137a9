//go:debug default=go1.27

// The same contract as most Go services have it: net/http, encoding/json, redigo.
//
// What is read has types, and what is not is json.RawMessage, level by level: no map of anys, whose
// floats would be other numbers, and no second decoding of what nobody reads. Pooled buffers, pooled
// connections, the catalog in memory, one core is one P.
package main

import (
	"bytes"
	"log"
	"net/http"
	"strconv"
	"sync"

	"contract"
)

const maxBody = 256 << 10

type server struct {
	enricher *contract.Enricher
	buffers  sync.Pool
}

func main() {
	enricher, options := contract.Start()
	s := &server{enricher: enricher}
	s.buffers.New = func() any { return new(bytes.Buffer) }
	mux := http.NewServeMux()
	mux.HandleFunc("POST /openrtb2/enrich", s.enrich)
	mux.HandleFunc("POST /openrtb2/enrich/{recipient}", s.enrich)
	log.Fatal(http.ListenAndServe(options.Addr, mux))
}

func (s *server) enrich(w http.ResponseWriter, r *http.Request) {
	recipient := r.PathValue("recipient")
	if !s.enricher.Knows(recipient) {
		http.NotFound(w, r)
		return
	}
	buffer := s.buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer s.buffers.Put(buffer)
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	header := w.Header()
	body, outcome := s.answer(buffer.Bytes(), recipient)
	header.Set("X-Enrich-Outcome", outcome)
	if outcome == "malformed" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

func (s *server) answer(body []byte, recipient string) ([]byte, string) {
	request, err := decode(body)
	if err != nil {
		return nil, "malformed"
	}
	isChanged := request.strip()
	additions, outcome := s.enricher.Decide(request.question(), recipient)
	if len(additions) > 0 {
		if request.add(additions) {
			isChanged = true
		} else {
			outcome = "no_match"
		}
	}
	if !isChanged {
		return body, outcome
	}
	return request.encode(), outcome
}
