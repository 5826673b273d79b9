module corten.test/fuzz/golden

go 1.26.2

require github.com/moby/spdystream v0.5.1
