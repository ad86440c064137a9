// The same contract as somebody would write it who has to be fast in Go: fasthttp, gjson, redigo.
//
// One pass over the body with gjson, values as views into it; the answer is the request's own
// bytes with pieces put in between (splice), so numbers and escapes leave as they came. Buffers and
// what a request needs are pooled, one core is one P. gjson.Valid stands before all of it: gjson
// reads anything, and what is no JSON must be answered with 400 as all the other peers do.
package main

import (
	"log"
	"strings"
	"sync"
	"unsafe"

	"contract"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

const (
	path    = "/openrtb2/enrich"
	maxBody = 256 << 10
)

type server struct {
	enricher *contract.Enricher
	requests sync.Pool
}

func main() {
	enricher, options := contract.Start()
	s := &server{enricher: enricher}
	s.requests.New = func() any { return new(request) }
	listener := &fasthttp.Server{
		Handler:               s.handle,
		NoDefaultServerHeader: true,
		NoDefaultDate:         true,
		NoDefaultContentType:  true,
		MaxRequestBodySize:    maxBody,
		ReadBufferSize:        8 << 10,
	}
	if options.Cert != "" {
		log.Fatal(listener.ListenAndServeTLS(options.Addr, options.Cert, options.Key))
	}
	log.Fatal(listener.ListenAndServe(options.Addr))
}

func (s *server) handle(ctx *fasthttp.RequestCtx) {
	recipient, isOurs := strings.CutPrefix(view(ctx.Path()), path)
	recipient = strings.TrimPrefix(recipient, "/")
	if !isOurs || !ctx.IsPost() || !s.enricher.Knows(recipient) {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	r := s.requests.Get().(*request)
	defer s.requests.Put(r)
	came := ctx.PostBody()
	if isGzip(ctx) {
		var err error
		if r.unfolded, err = unfold(r.unfolded[:0], came); err != nil {
			refuse(ctx)
			return
		}
		came = r.unfolded
	}
	body := view(came)
	root := gjson.Parse(body)
	if !gjson.Valid(body) || !root.IsObject() {
		refuse(ctx)
		return
	}
	r.read(body, root)
	additions, outcome := s.enricher.Decide(&r.Question, recipient)
	if len(additions) > 0 && !r.add(additions) {
		outcome = "no_match"
	}
	ctx.Response.Header.Set("Content-Type", "application/json")
	ctx.Response.Header.Set("X-Enrich-Outcome", outcome)
	r.writeTo(ctx)
}

func refuse(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(fasthttp.StatusBadRequest)
	ctx.Response.Header.Set("X-Enrich-Outcome", "malformed")
}

// view reads bytes as a string where they are; it holds as long as the request does.
func view(bytes []byte) string {
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}
