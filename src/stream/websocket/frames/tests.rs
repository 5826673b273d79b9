use super::*;
use tungstenite::protocol::frame::Frame;

const MASK: [u8; 4] = [0x11, 0x80, 0x00, 0xfe];

/// A client's frame, written by the crate.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some(MASK),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    let frame = Frame::from_payload(header, payload.to_vec().into());
    frame.format(&mut bytes).unwrap();
    bytes
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Data(Data::Binary), true, payload)
}

/// Reads all of it, given in steps of so many bytes; messages, and one for each control frame.
fn read(bytes: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>, FrameError> {
    let mut frames = Frames::default();
    let mut held = Vec::new();
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for chunk in bytes.chunks(step) {
        held.extend_from_slice(chunk);
        while let Some((taken, piece)) = frames.next(&mut held)? {
            match piece {
                Piece::Data {
                    payload,
                    first,
                    last,
                } => {
                    if first {
                        found.push(("open".to_owned(), Vec::new()));
                    }
                    let (name, message) = found
                        .iter_mut()
                        .rev()
                        .find(|(name, _)| name == "open")
                        .expect("a message is open");
                    message.extend_from_slice(&held[payload]);
                    if last {
                        *name = "whole".to_owned();
                    }
                }
                Piece::Ping(payload) => found.push(("ping".to_owned(), held[payload].to_vec())),
                Piece::Pong => found.push(("pong".to_owned(), Vec::new())),
                Piece::Close => found.push(("close".to_owned(), Vec::new())),
            }
            held.drain(..taken);
        }
    }
    Ok(found)
}

fn whole(payload: &[u8]) -> (String, Vec<u8>) {
    ("whole".to_owned(), payload.to_vec())
}

#[test]
fn a_message_is_the_same_however_it_comes() {
    let long: Vec<u8> = (0..70_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let bytes = [binary(b"hello"), binary(b""), binary(&long)].concat();
    for step in [1, 2, 7, 13, 4096, bytes.len()] {
        let messages = read(&bytes, step).unwrap();
        assert_eq!(messages, [whole(b"hello"), whole(b""), whole(&long)]);
    }
}

#[test]
fn control_frames_come_between_the_pieces_of_a_message() {
    let bytes = [
        frame(OpCode::Data(Data::Binary), false, b"ab"),
        frame(OpCode::Control(Control::Ping), true, b"there?"),
        frame(OpCode::Data(Data::Continue), false, b""),
        frame(OpCode::Control(Control::Pong), true, b""),
        frame(OpCode::Data(Data::Continue), true, b"cd"),
        frame(OpCode::Control(Control::Close), true, &[3, 232]),
    ]
    .concat();
    for step in [1, 3, bytes.len()] {
        let found = read(&bytes, step).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["whole", "ping", "pong", "close"]);
        assert_eq!(
            (&found[0].1[..], &found[1].1[..]),
            (&b"abcd"[..], &b"there?"[..])
        );
    }
}

#[test]
fn what_is_no_websocket_is_refused() {
    let first = |bytes: &[u8]| read(bytes, bytes.len()).unwrap_err();
    let mut unmasked = Vec::new();
    let plain = Frame::message(vec![1, 2], OpCode::Data(Data::Binary), true);
    plain.format(&mut unmasked).unwrap();
    assert_eq!(first(&unmasked), FrameError::Unmasked);

    let mut extension = binary(b"x");
    extension[0] |= 0x40;
    assert_eq!(first(&extension), FrameError::Extension);

    let mut reserved = binary(b"x");
    reserved[0] = 0x83;
    assert!(matches!(first(&reserved), FrameError::Header(_)));

    let long_ping = frame(OpCode::Control(Control::Ping), true, &[0; 126]);
    assert_eq!(first(&long_ping), FrameError::Control);
    let split_ping = frame(OpCode::Control(Control::Ping), false, b"");
    assert_eq!(first(&split_ping), FrameError::Control);

    let lone = frame(OpCode::Data(Data::Continue), true, b"x");
    assert_eq!(first(&lone), FrameError::Order);
    let twice = [frame(OpCode::Data(Data::Binary), false, b"x"), binary(b"y")].concat();
    assert_eq!(first(&twice), FrameError::Order);
}

#[test]
fn a_frame_that_says_to_be_endless_takes_no_memory() {
    let mut bytes = vec![0x82, 0xff];
    bytes.extend_from_slice(&u64::MAX.to_be_bytes());
    bytes.extend_from_slice(&MASK);
    bytes.extend_from_slice(&MASK);
    let mut frames = Frames::default();
    let (taken, piece) = frames.next(&mut bytes).unwrap().unwrap();
    assert_eq!(taken, bytes.len());
    let Piece::Data { payload, last, .. } = piece else {
        panic!("{piece:?}");
    };
    assert_eq!((&bytes[payload], last), (&[0; 4][..], false));
}

#[test]
fn a_servers_header_is_what_the_crate_reads() {
    for length in [0, 125, 126, 65_535, 65_536, 1 << 20] {
        let header = Header::new(OpCode::Data(Data::Binary), length);
        let read = FrameHeader::parse(&mut Cursor::new(header.bytes()));
        let (read, found) = read.unwrap().unwrap();
        assert!(read.is_final && read.mask.is_none());
        assert_eq!(found, length as u64);
    }
}
