package contract

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// Store looks records up, over pooled connections.
type Store struct {
	pool       *redis.Pool
	bucketBits uint
}

// DialStore opens the store at a URL of the form unix:///PATH.
func DialStore(url string, connections int) (*Store, error) {
	path := strings.TrimPrefix(url, "unix://")
	pool := &redis.Pool{
		Dial:    func() (redis.Conn, error) { return redis.Dial("unix", path) },
		MaxIdle: connections,
	}
	conn := pool.Get()
	defer conn.Close()
	bits, err := redis.Uint64(conn.Do("HGET", "seg:1:meta", "bucket_bits"))
	return &Store{pool, uint(bits)}, err
}

// Lookup returns the packed record of each id, nil where there is none.
func (s *Store) Lookup(ids IDs, within time.Duration) ([][]byte, error) {
	conn := s.pool.Get()
	defer conn.Close()
	if len(ids) == 1 {
		key, field := s.place(&ids[0])
		value, err := bytesOf(redis.DoWithTimeout(conn, within, "HGET", key, field))
		return [][]byte{value}, err
	}
	for i := range ids {
		key, field := s.place(&ids[i])
		if err := conn.Send("HGET", key, field); err != nil {
			return nil, err
		}
	}
	if err := conn.Flush(); err != nil {
		return nil, err
	}
	found := make([][]byte, len(ids))
	for i := range ids {
		value, err := bytesOf(redis.ReceiveWithTimeout(conn, within))
		if err != nil {
			return nil, err
		}
		found[i] = value
	}
	return found, nil
}

// place returns where a record is: key and field, as segments/store/keys.py has it.
func (s *Store) place(id *ID) (key, field []byte) {
	bucket := uint64(id[0])<<24 | uint64(id[1])<<16 | uint64(id[2])<<8 | uint64(id[3])
	key = append(make([]byte, 0, 16), "seg:1:m:"...)
	return strconv.AppendUint(key, bucket>>(32-s.bucketBits), 16), id[4:12]
}

func bytesOf(reply any, err error) ([]byte, error) {
	value, err := redis.Bytes(reply, err)
	if errors.Is(err, redis.ErrNil) {
		return nil, nil
	}
	return value, err
}

func outcomeOf(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "out_of_time"
	}
	return "store_down"
}
