package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fasthttp"
)

// Below this an answer leaves as it is, as ours does.
const minGzip = 1_024

var (
	errTooLarge = errors.New("more than a request may have")
	readers     sync.Pool
	writers     = sync.Pool{New: func() any {
		writer, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // a level that there is
		return writer
	}}
)

// reader is one of gzip with the bytes that it reads, to be used again.
type reader struct {
	from bytes.Reader
	gzip.Reader
}

func isGzip(ctx *fasthttp.RequestCtx) bool {
	return string(ctx.Request.Header.Peek("Content-Encoding")) == "gzip"
}

func takesGzip(ctx *fasthttp.RequestCtx) bool {
	return strings.Contains(view(ctx.Request.Header.Peek("Accept-Encoding")), "gzip")
}

// unfold decompresses a request, up to the size that one may have.
func unfold(into, body []byte) ([]byte, error) {
	r, isUsed := readers.Get().(*reader)
	if !isUsed {
		r = new(reader)
	}
	defer readers.Put(r)
	r.from.Reset(body)
	if err := r.Reset(&r.from); err != nil {
		return into, err
	}
	for {
		if len(into) == cap(into) {
			into = append(into, make([]byte, max(4<<10, len(into)))...)[:len(into)]
		}
		n, err := r.Read(into[len(into):cap(into)])
		into = into[:len(into)+n]
		switch {
		case len(into) > maxBody:
			return into, errTooLarge
		case err == io.EOF:
			return into, nil
		case err != nil:
			return into, err
		}
	}
}

// fold compresses an answer into the buffer of the response.
func fold(ctx *fasthttp.RequestCtx, plain []byte) {
	if len(plain) < minGzip {
		ctx.Response.AppendBody(plain)
		return
	}
	writer := writers.Get().(*gzip.Writer)
	defer writers.Put(writer)
	writer.Reset(ctx.Response.BodyWriter())
	if _, err := writer.Write(plain); err == nil {
		_ = writer.Close() // of a buffer in memory
	}
	ctx.Response.Header.Set("Content-Encoding", "gzip")
}
