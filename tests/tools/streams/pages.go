package main

import (
	"fmt"
	"net/http"
	"strconv"
)

// serve: pages from one process, so that what is measured through a forwarded port is not how fast a pod starts programs.
func serve(o options) error {
	pages := http.NewServeMux()
	pages.HandleFunc("/{$}", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprintln(answer, "a page") })
	pages.HandleFunc("/large", func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("Content-Length", strconv.FormatInt(o.bytes, 10))
		part := make([]byte, 256<<10)
		for left := o.bytes; left > 0; left -= int64(len(part)) {
			if _, err := answer.Write(part[:min(left, int64(len(part)))]); err != nil {
				return
			}
		}
	})
	return http.ListenAndServe(fmt.Sprintf(":%d", o.port), pages)
}
