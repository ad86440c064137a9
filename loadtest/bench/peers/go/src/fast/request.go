package main

import (
	"slices"
	"strings"

	"contract"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

// request is what is read of a bid request, and what is to change in it.
type request struct {
	contract.Question
	body                          string
	root, user, ext, data, hashes gjson.Result
	hashesKey                     int // where the key of `hashes` begins
	edits                         []edit
	text                          []byte // of all edits, one behind the other
	unfolded, plain               []byte // the body before and behind, where these are compressed
}

// edit puts text[from:to] in place of body[start:end].
type edit struct {
	start, end, from, to int
}

func (r *request) read(body string, root gjson.Result) {
	*r = request{
		Question: contract.Question{IDs: r.IDs[:0]},
		body:     body,
		root:     root,
		edits:    r.edits[:0],
		text:     r.text[:0],
		unfolded: r.unfolded,
		plain:    r.plain,
	}
	var device, regs gjson.Result
	root.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "user":
			r.user = value
		case "device":
			device = value
		case "regs":
			regs = value
		case "tmax":
			r.TMaxMS = value.Num
		}
		return true
	})
	r.readRegs(regs)
	r.readPerson(device)
	if r.hashes.Exists() {
		r.cutHashes()
	}
}

func (r *request) readRegs(regs gjson.Result) {
	s := &r.Signals
	var read func(key, value gjson.Result) bool
	isExt := 0
	read = func(key, value gjson.Result) bool {
		switch key.Str {
		case "coppa":
			s.Coppa = s.Coppa || isExt == 0 && value.Num == 1
		case "us_privacy":
			s.USPrivacy[isExt] = value.Str
		case "gdpr":
			s.IsGDPR = s.IsGDPR || value.Num == 1
			s.IsNotGDPR = s.IsNotGDPR || value.Type == gjson.Number && value.Num == 0
		case "gpp_sid":
			value.ForEach(func(_, sid gjson.Result) bool {
				s.AddSID(sid.Num)
				return true
			})
		case "gpp":
			s.GPP[isExt] = value.Str
		case "gpc":
			if isExt == 1 {
				s.GPC = value.Str
			}
		case "ext":
			if isExt == 0 {
				isExt = 1
				value.ForEach(read)
				isExt = 0
			}
		}
		return true
	}
	regs.ForEach(read)
}

func (r *request) readPerson(device gjson.Result) {
	var eids, eidsOfExt gjson.Result
	r.user.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "eids":
			eids = value
		case "consent":
			r.Signals.Consent[0] = value.Str
		case "data":
			r.data = value
		case "ext":
			r.ext = value
		}
		return true
	})
	r.ext.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "eids":
			eidsOfExt = value
		case "consent":
			r.Signals.Consent[1] = value.Str
		case "hashes":
			r.hashes, r.hashesKey = value, key.Index
		}
		return true
	})
	if !isNonEmptyArray(eids) {
		eids = eidsOfExt
	}
	eids.ForEach(func(_, eid gjson.Result) bool {
		r.readEid(eid)
		return true
	})
	if emails := r.hashes.Get("email"); emails.Type == gjson.String {
		r.IDs.AddEmailHash(emails.Str)
	} else {
		emails.ForEach(func(_, email gjson.Result) bool {
			r.IDs.AddEmailHash(email.Str)
			return true
		})
	}
	var ifa string
	device.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "ifa":
			ifa = value.Str
		case "lmt":
			r.Signals.LMT = value.Num == 1
		}
		return true
	})
	r.IDs.AddIFA(ifa, r.Signals.LMT)
}

func (r *request) readEid(eid gjson.Result) {
	var uid contract.UID
	var uids gjson.Result
	eid.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "source":
			uid.Source = value.Str
		case "uids":
			uids = value
		}
		return true
	})
	uids.ForEach(func(_, value gjson.Result) bool {
		one := contract.UID{Source: uid.Source}
		value.ForEach(func(key, value gjson.Result) bool {
			switch key.Str {
			case "id":
				one.ID = value.Str
			case "ext":
				one.SType, one.Provider = value.Get("stype").Str, value.Get("provider").Str
			}
			return true
		})
		r.IDs.AddUID(one, r.Signals.Coppa)
		return true
	})
}

// cutHashes takes user.ext.hashes out, and one of the commas beside it.
func (r *request) cutHashes() {
	body, start, end := r.body, r.hashesKey, r.hashes.Index+len(r.hashes.Raw)
	start = strings.LastIndexAny(body[:start], ",{") // between a key and these there is only space
	if body[start] == '{' {
		start++
		if next := strings.IndexAny(body[end:], ",}"); body[end+next] == ',' {
			end += next + 1
		}
	}
	r.edits = append(r.edits, edit{start: start, end: end})
}

// add puts segments in; false where all of them are there already.
func (r *request) add(additions []contract.Addition) bool {
	before := len(r.edits)
	r.data.ForEach(func(_, data gjson.Result) bool {
		id, segtax := data.Get("id").Str, data.Get("ext.segtax").Raw
		for i := range additions {
			partner := additions[i].Partner
			if partner != nil && partner.ID == id && partner.Segtax == segtax {
				r.extend(data, additions[i].Segments)
				additions[i].Partner = nil
			}
		}
		return true
	})
	r.append(additions)
	return len(r.edits) > before
}

// extend adds the segments that are missing to a Data object that came with the request.
func (r *request) extend(data gjson.Result, segments []*contract.Audience) {
	held := data.Get("segment")
	held.ForEach(func(_, segment gjson.Result) bool {
		id := segment.Get("id").Str
		segments = slices.DeleteFunc(segments, func(a *contract.Audience) bool { return a.SegmentID == id })
		return true
	})
	if len(segments) == 0 {
		return
	}
	from := len(r.text)
	at := data.Index + len(data.Raw) - 1
	switch {
	case held.IsArray():
		at = held.Index + len(held.Raw) - 1
		r.comma(isNonEmptyArray(held))
		r.write(segments)
	default:
		r.comma(strings.TrimSpace(data.Raw[1:len(data.Raw)-1]) != "")
		r.text = append(r.text, `"segment":[`...)
		r.write(segments)
		r.text = append(r.text, ']')
	}
	r.edits = append(r.edits, edit{at, at, from, len(r.text)})
}

// append puts a Data object for each partner behind those that are there.
func (r *request) append(additions []contract.Addition) {
	additions = slices.DeleteFunc(additions, func(a contract.Addition) bool { return a.Partner == nil })
	if len(additions) == 0 {
		return
	}
	from := len(r.text)
	at, closing := 0, ""
	switch {
	case r.data.IsArray():
		at = r.data.Index + len(r.data.Raw) - 1
		r.comma(isNonEmptyArray(r.data))
	case r.user.IsObject():
		at, closing = r.user.Index+1, "]"
		r.text = append(r.text, `"data":[`...)
		if strings.TrimSpace(r.user.Raw[1:len(r.user.Raw)-1]) != "" {
			closing = "],"
		}
	default:
		at, closing = r.root.Index+1, "]},"
		r.text = append(r.text, `"user":{"data":[`...)
	}
	for i, addition := range additions {
		r.comma(i > 0)
		r.text = append(r.text, addition.Partner.Head...)
		r.write(addition.Segments)
		r.text = append(r.text, addition.Partner.Tail...)
	}
	r.text = append(r.text, closing...)
	r.edits = append(r.edits, edit{at, at, from, len(r.text)})
}

func (r *request) write(segments []*contract.Audience) {
	for i, audience := range segments {
		r.comma(i > 0)
		r.text = append(r.text, audience.Segment...)
	}
}

func (r *request) comma(isNeeded bool) {
	if isNeeded {
		r.text = append(r.text, ',')
	}
}

func (r *request) writeTo(ctx *fasthttp.RequestCtx) {
	slices.SortFunc(r.edits, func(a, b edit) int { return a.start - b.start })
	if takesGzip(ctx) {
		r.plain = r.plain[:0]
		for text := range r.pieces {
			r.plain = append(r.plain, text...)
		}
		fold(ctx, r.plain)
		return
	}
	for text := range r.pieces {
		ctx.Response.AppendBodyString(text)
	}
}

// pieces yields the answer's body.
func (r *request) pieces(yield func(string) bool) {
	at := 0
	for _, e := range r.edits {
		if !yield(r.body[at:e.start]) || !yield(view(r.text[e.from:e.to])) {
			return
		}
		at = e.end
	}
	yield(r.body[at:])
}

func isNonEmptyArray(value gjson.Result) bool {
	return value.IsArray() && strings.TrimSpace(value.Raw[1:len(value.Raw)-1]) != ""
}
