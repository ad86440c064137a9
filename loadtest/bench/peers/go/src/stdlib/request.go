package main

import (
	"bytes"
	"encoding/json"
	"errors"

	"contract"
)

// fields are those of an object that leave as they came unless we change them.
type fields map[string]json.RawMessage

// request is a bid request, opened as far as we read or change it.
type request struct {
	root, user, ext fields
	device          device
	regs            regs
	eids            []eid
	hashes          json.RawMessage
	consent         [2]string
	tmax            float64
}

type device struct {
	IFA string `json:"ifa"`
	LMT int    `json:"lmt"`
}

type regs struct {
	Coppa int `json:"coppa"`
	signals
	Ext struct {
		signals
		GPC string `json:"gpc"`
	} `json:"ext"`
}

type signals struct {
	GDPR      *int   `json:"gdpr"`
	USPrivacy string `json:"us_privacy"`
	GPP       string `json:"gpp"`
	GPPSID    []int  `json:"gpp_sid"`
}

type eid struct {
	Source string `json:"source"`
	UIDs   []struct {
		ID  string `json:"id"`
		Ext struct {
			SType    string `json:"stype"`
			Provider string `json:"provider"`
		} `json:"ext"`
	} `json:"uids"`
}

type segment struct {
	ID string `json:"id"`
}

func decode(body []byte) (*request, error) {
	r := &request{}
	if err := json.Unmarshal(body, &r.root); err != nil {
		return nil, err
	}
	if r.root == nil {
		return nil, errors.New("null is no bid request")
	}
	var eidsOfExt []eid
	err := errors.Join(
		unmarshal(r.root["user"], &r.user),
		unmarshal(r.root["device"], &r.device),
		unmarshal(r.root["regs"], &r.regs),
		unmarshal(r.root["tmax"], &r.tmax),
		unmarshal(r.user["ext"], &r.ext),
		unmarshal(r.user["eids"], &r.eids),
		unmarshal(r.user["consent"], &r.consent[0]),
		unmarshal(r.ext["eids"], &eidsOfExt),
		unmarshal(r.ext["consent"], &r.consent[1]),
	)
	if len(r.eids) == 0 {
		r.eids = eidsOfExt
	}
	return r, err
}

// unmarshal leaves alone what is not there.
func unmarshal(raw json.RawMessage, into any) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

func (r *request) strip() bool {
	hashes, isThere := r.ext["hashes"]
	if !isThere {
		return false
	}
	r.hashes = hashes
	delete(r.ext, "hashes")
	r.user["ext"] = marshal(r.ext)
	return true
}

func (r *request) question() *contract.Question {
	q := &contract.Question{TMaxMS: r.tmax}
	isChild := r.regs.Coppa == 1
	for _, eid := range r.eids {
		for _, uid := range eid.UIDs {
			q.IDs.AddUID(contract.UID{
				Source: eid.Source, ID: uid.ID, SType: uid.Ext.SType, Provider: uid.Ext.Provider,
			}, isChild)
		}
	}
	for _, email := range emails(r.hashes) {
		q.IDs.AddEmailHash(email)
	}
	isLimited := r.device.LMT == 1
	q.IDs.AddIFA(r.device.IFA, isLimited)
	is := func(gdpr *int, value int) bool { return gdpr != nil && *gdpr == value }
	q.Signals = contract.Signals{
		Coppa:     isChild,
		LMT:       isLimited,
		GPC:       r.regs.Ext.GPC,
		USPrivacy: [2]string{r.regs.USPrivacy, r.regs.Ext.USPrivacy},
		IsGDPR:    is(r.regs.GDPR, 1) || is(r.regs.Ext.GDPR, 1),
		IsNotGDPR: is(r.regs.GDPR, 0) || is(r.regs.Ext.GDPR, 0),
		Consent:   r.consent,
		GPP:       [2]string{r.regs.GPP, r.regs.Ext.GPP},
	}
	for _, sid := range append(r.regs.GPPSID, r.regs.Ext.GPPSID...) {
		q.Signals.AddSID(float64(sid))
	}
	return q
}

func emails(hashes json.RawMessage) (all []string) {
	if hashes == nil {
		return nil
	}
	var held struct {
		Email json.RawMessage `json:"email"`
	}
	var one string
	if json.Unmarshal(hashes, &held) != nil || held.Email == nil {
		return nil
	}
	if json.Unmarshal(held.Email, &one) == nil {
		return []string{one}
	}
	if json.Unmarshal(held.Email, &all) != nil {
		return nil
	}
	return all
}

// taxonomy tells Data objects apart.
type taxonomy struct{ id, segtax string }

// add puts segments in, one Data a partner; false where all of them are there already.
func (r *request) add(additions []contract.Addition) bool {
	var came []json.RawMessage
	if unmarshal(r.user["data"], &came) != nil {
		return false
	}
	isNew := false
	at := map[taxonomy]int{}
	for i, raw := range came {
		var data struct {
			ID  string
			Ext struct{ Segtax json.Number }
		}
		if json.Unmarshal(raw, &data) == nil {
			key := taxonomy{data.ID, string(data.Ext.Segtax)}
			if _, isThere := at[key]; !isThere {
				at[key] = i
			}
		}
	}
	for _, addition := range additions {
		if i, isThere := at[taxonomy{addition.Partner.ID, addition.Partner.Segtax}]; isThere {
			if extended := extend(came[i], addition.Segments); extended != nil {
				came[i], isNew = extended, true
			}
			continue
		}
		data := bytes.Clone(addition.Partner.Head)
		for i, audience := range addition.Segments {
			if i > 0 {
				data = append(data, ',')
			}
			data = append(data, audience.Segment...)
		}
		came, isNew = append(came, append(data, addition.Partner.Tail...)), true
	}
	if isNew {
		if r.user == nil {
			r.user = fields{}
		}
		r.user["data"] = marshal(came)
	}
	return isNew
}

// extend adds the segments that are missing to a Data object; nil where none is.
func extend(raw json.RawMessage, segments []*contract.Audience) json.RawMessage {
	var data fields
	var came []json.RawMessage
	if json.Unmarshal(raw, &data) != nil || unmarshal(data["segment"], &came) != nil {
		return nil
	}
	held := map[string]bool{}
	for _, raw := range came {
		var one segment
		if json.Unmarshal(raw, &one) == nil {
			held[one.ID] = true
		}
	}
	isNew := false
	for _, audience := range segments {
		if !held[audience.SegmentID] {
			came, isNew = append(came, audience.Segment), true
		}
	}
	if !isNew {
		return nil
	}
	data["segment"] = marshal(came)
	return marshal(data)
}

func (r *request) encode() []byte {
	if r.user != nil {
		r.root["user"] = marshal(r.user)
	}
	return marshal(r.root)
}

// marshal writes what was read before, so it can't fail; characters of HTML stay as they are.
func marshal(value any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
}
