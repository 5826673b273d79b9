//! What is encoded is decoded, and what is broken is named.

mod golden;

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, FlushCompress};

use super::zlib::Stored;
use super::*;

fn headers() -> Headers {
    Headers::from_pairs([
        ("streamType", "stdin"),
        ("port", "80"),
        ("Port", "81"),
        ("empty", ""),
    ])
}

/// One of each kind.
fn frames() -> Vec<Frame> {
    let headers = headers();
    vec![
        Frame::SynStream {
            stream: 1,
            associated: 0,
            priority: 7,
            fin: true,
            unidirectional: false,
            headers: headers.clone(),
        },
        Frame::SynStream {
            stream: 3,
            associated: 1,
            priority: 0,
            fin: false,
            unidirectional: true,
            headers: Headers::default(),
        },
        Frame::SynReply {
            stream: 1,
            fin: false,
            headers: headers.clone(),
        },
        Frame::Headers {
            stream: 1,
            fin: true,
            headers,
        },
        Frame::RstStream {
            stream: 3,
            status: ResetStatus::CANCEL,
        },
        Frame::Settings(vec![Setting {
            flags: 1,
            id: Setting::INITIAL_WINDOW,
            value: 1 << 20,
        }]),
        Frame::Ping(7),
        Frame::WindowUpdate {
            stream: 0,
            delta: 0x7fff_ffff,
        },
        Frame::GoAway {
            last_good: 3,
            status: GoAwayStatus::OK,
        },
    ]
}

fn encoded(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    for frame in frames {
        encoder.put(frame, &mut out);
    }
    out
}

/// Decodes all of `bytes`, which come in parts of `part`.
fn decode(bytes: &[u8], part: usize) -> Result<(Vec<Frame>, Vec<u8>), CodecError> {
    let mut decoder = Decoder::new(Limits::default());
    let (mut frames, mut payload) = (Vec::new(), Vec::new());
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + part);
        while let Some((taken, piece)) = decoder.decode(&bytes[start..end], usize::MAX)? {
            start += taken;
            match piece {
                Piece::Control(frame) => frames.push(frame),
                Piece::Data { bytes, .. } => payload.extend_from_slice(bytes),
            }
        }
    }
    assert_eq!(start, bytes.len(), "all is decoded");
    Ok((frames, payload))
}

fn error(bytes: &[u8]) -> String {
    decode(bytes, usize::MAX)
        .expect_err("it is broken")
        .to_string()
}

#[test]
fn the_dictionary_is_the_specifications() {
    let bytes = dictionary::bytes();
    assert_eq!(bytes.len(), 1423);
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(b << 16 | a, dictionary::ID);
}

#[test]
fn each_frame_comes_back_however_the_bytes_are_cut() {
    let bytes = encoded(&frames());
    for part in [1, 2, 7, 8, 9, bytes.len()] {
        assert_eq!(decode(&bytes, part).unwrap().0, frames(), "parts of {part}");
    }
}

#[test]
fn headers_are_found_in_any_case_with_all_their_values() {
    let headers = headers();
    assert_eq!(headers.get("StreamType"), Some("stdin"));
    assert_eq!(headers.all("port").collect::<Vec<_>>(), ["80", "81"]);
    assert_eq!(headers.get("empty"), Some(""));
    assert_eq!(headers.get("other"), None);
}

#[test]
fn a_data_frame_is_given_as_it_comes_and_ends_once() {
    let mut bytes = data_header(5, 10, true).to_vec();
    bytes.extend_from_slice(b"0123456789");
    let mut decoder = Decoder::new(Limits::default());
    assert_eq!(decoder.decode(&bytes[..8], 100), Ok(None), "no payload yet");
    let first = Piece::Data {
        stream: 5,
        bytes: b"012",
        fin: false,
    };
    assert_eq!(decoder.decode(&bytes[..11], 100), Ok(Some((11, first))));
    assert_eq!(decoder.decode(&[], 100), Ok(None));
    let second = Piece::Data {
        stream: 5,
        bytes: b"3456",
        fin: false,
    };
    assert_eq!(
        decoder.decode(&bytes[11..], 4),
        Ok(Some((4, second))),
        "no more than asked"
    );
    let last = Piece::Data {
        stream: 5,
        bytes: b"789",
        fin: true,
    };
    assert_eq!(decoder.decode(&bytes[15..], 4), Ok(Some((3, last))));
    let empty = Piece::Data {
        stream: 5,
        bytes: b"",
        fin: true,
    };
    let bytes = data_header(5, 0, true);
    assert_eq!(decoder.decode(&bytes, 4), Ok(Some((8, empty))));
}

#[test]
fn a_frame_of_an_unknown_type_is_passed_over() {
    let bytes = [0x80, 3, 0, 99, 0, 0, 0, 2, 1, 2];
    assert_eq!(decode(&bytes, 1).unwrap().0, [Frame::Unknown { kind: 99 }]);
}

/// To the codec; that no session has such a stream is the driver's to say.
#[test]
fn text_is_the_beginning_of_a_long_data_frame() {
    let mut decoder = Decoder::new(Limits::default());
    let piece = decoder.decode(b"GET / HTTP/1.1\r\n\r\n", 1);
    let data = Piece::Data {
        stream: 0x4745_5420,
        bytes: b"T",
        fin: false,
    };
    assert_eq!(piece, Ok(Some((9, data))));
}

#[test]
fn what_is_no_frame_is_named() {
    let cases: [(&[u8], &str); 11] = [
        (&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], "version 2"),
        (
            &[0x80, 3, 0, 1, 0, 255, 255, 255],
            "SYN_STREAM frame of 16777215 bytes; at most 16384",
        ),
        (
            &[0x80, 3, 0, 6, 0, 0, 0, 3, 0, 0, 0],
            "a PING frame of 3 bytes",
        ),
        (
            &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0],
            "a SYN_STREAM frame of 2 bytes",
        ),
        (&[0x80, 3, 0, 8, 0, 0, 0, 0], "a HEADERS frame of 0 bytes"),
        (
            &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
            "RST_STREAM frame for stream 0",
        ),
        (&[0, 0, 0, 0, 0, 0, 0, 0], "a DATA frame for stream 0"),
        (
            &[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0],
            "WINDOW_UPDATE frame whose delta is 0",
        ),
        (
            &[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1],
            "a SETTINGS frame of 4 bytes",
        ),
        (
            &[
                0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 255, 255, 255, 255,
            ],
            "initial window is 4294967295",
        ),
        (
            &[0x80, 3, 0, 7, 0, 0, 0, 4, 0, 0, 0, 1],
            "a GOAWAY frame of 4 bytes",
        ),
    ];
    for (bytes, expected) in cases {
        let error = error(bytes);
        assert!(error.contains(expected), "{error}");
    }
}

/// A SYN_STREAM frame of stream 1 with these bytes as its header block.
fn syn_stream(block: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[0x80, 3, 0, 1]);
    bytes.put_u32(u32::try_from(10 + block.len()).unwrap());
    bytes.put_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.put_slice(block);
    bytes
}

fn stored(block: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    Stored::default().put(block, &mut bytes);
    syn_stream(&bytes)
}

fn compressed(block: &[u8]) -> BytesMut {
    let mut compress = Compress::new(Compression::best(), true);
    compress.set_dictionary(&dictionary::bytes()).unwrap();
    let mut bytes = Vec::with_capacity(block.len() + 100);
    compress
        .compress_vec(block, &mut bytes, FlushCompress::Sync)
        .unwrap();
    syn_stream(&bytes)
}

#[test]
fn a_block_that_another_compressor_wrote_is_read() {
    let block = headers().block();
    let frames = decode(&compressed(&block), 1).unwrap().0;
    let [Frame::SynStream { headers: found, .. }] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!(*found, headers());
}

#[test]
fn a_broken_header_block_is_named() {
    let block = headers().block();
    let mut other_dictionary = stored(&block);
    other_dictionary[8 + 10 + 2] ^= 1;
    let cases = [
        (syn_stream(b"no zlib at all"), "cannot be decompressed"),
        (other_dictionary, "a dictionary that is not SPDY/3's"),
        (syn_stream(b""), "an end inside a length"),
        (stored(&[0, 0, 0]), "an end inside a length"),
        (stored(&[0, 0, 0, 1]), "an end inside a length"),
        (
            stored(&[0, 0, 0, 1, 255, 255, 255, 255, b'a']),
            "longer than itself",
        ),
        (stored(&[255, 255, 255, 255]), "an end inside a length"),
        (stored(&[0, 0, 0, 0, 9]), "bytes after its last header"),
        (
            stored(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            "an empty name",
        ),
        (
            stored(&[0, 0, 0, 1, 0, 0, 0, 1, b'A', 0, 0, 0, 0]),
            "upper case",
        ),
        (
            stored(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]),
            "not UTF-8",
        ),
        (
            stored(&[
                0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 0, 0,
            ]),
            "comes twice",
        ),
        (
            compressed(&vec![0; 1 << 20]),
            "more than 8192 bytes when decompressed",
        ),
    ];
    for (bytes, expected) in cases {
        let error = error(&bytes);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_compressed_stream_that_ends_is_an_error() {
    let mut compress = Compress::new(Compression::best(), true);
    let mut bytes = Vec::with_capacity(100);
    compress
        .compress_vec(&[0; 4], &mut bytes, FlushCompress::Finish)
        .unwrap();
    assert!(error(&syn_stream(&bytes)).contains("ends before the session"));
}

#[test]
fn a_block_of_just_the_limit_is_taken() {
    let limit = Limits::default().header_block;
    let mut block = vec![0, 0, 0, 1, 0, 0, 0, 1, b'a'];
    let value = limit - block.len() - 4;
    block.extend_from_slice(&u32::try_from(value).unwrap().to_be_bytes());
    block.resize(limit, b'b');
    assert!(decode(&compressed(&block), 1000).is_ok());
    assert!(decode(&compressed(&[&block[..], b"c"].concat()), 1000).is_err());
}

/// spdystream waits for more than its frame otherwise, and then for ever.
#[test]
fn a_header_block_ends_with_a_flush() {
    let mut bytes = BytesMut::new();
    Stored::default().put(&[0, 0, 0, 0], &mut bytes);
    assert!(bytes.ends_with(&[0, 0, 0, 0xff, 0xff]));
}

/// Few bytes could else become many strings.
#[test]
fn a_block_has_only_so_many_names_and_values() {
    let many = |names: u32, values: usize| {
        let mut block = BytesMut::new();
        block.put_u32(names);
        for at in 0..names {
            for text in [format!("n{at}"), "\0".repeat(values - 1)] {
                block.put_u32(u32::try_from(text.len()).unwrap());
                block.put_slice(text.as_bytes());
            }
        }
        Headers::parse(&block)
    };
    assert!(many(64, 1).is_ok() && many(1, 64).is_ok());
    assert!(many(65, 1).is_err() && many(1, 65).is_err() && many(2, 33).is_err());
}
