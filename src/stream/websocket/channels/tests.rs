use super::*;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

fn fragment(opcode: Data, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode: OpCode::Data(opcode),
        mask: Some([7, 6, 5, 4]),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    let frame = Frame::from_payload(header, payload.to_vec().into());
    frame.format(&mut bytes).unwrap();
    bytes
}

fn message(payload: &[u8]) -> Vec<u8> {
    fragment(Data::Binary, true, payload)
}

/// What was said to each channel in turn, neighbours joined; the end of one is "end".
fn read(coding: Coding, bytes: &[u8], step: usize) -> Result<Vec<(u8, Vec<u8>)>, ChannelError> {
    let mut channels = Channels::new(coding);
    let mut held = Vec::new();
    let mut said: Vec<(u8, Vec<u8>)> = Vec::new();
    for chunk in bytes.chunks(step) {
        held.extend_from_slice(chunk);
        while let Some((taken, what)) = channels.next(&mut held)? {
            match what {
                Said::Bytes(channel, bytes) => match said.last_mut() {
                    Some((last, all)) if *last == channel => all.extend_from_slice(bytes),
                    _ => said.push((channel, bytes.to_vec())),
                },
                Said::End(channel) => said.push((channel, b"end".to_vec())),
                Said::Ping(_) | Said::Nothing | Said::Close => {}
            }
            held.drain(..taken);
        }
    }
    Ok(said)
}

#[test]
fn each_byte_goes_to_its_channel_however_it_comes() {
    let bytes = [
        message(b"\x00one"),
        message(b"\x04{}"),
        message(b""),
        fragment(Data::Binary, false, b"\x00t"),
        fragment(Data::Continue, false, b""),
        fragment(Data::Continue, true, b"wo"),
        message(b"\x09nobody"),
    ]
    .concat();
    for step in [1, 5, bytes.len()] {
        let said = read(Coding::Binary, &bytes, step).unwrap();
        let wanted: [(u8, &[u8]); 4] = [(0, b"one"), (4, b"{}"), (0, b"two"), (9, b"nobody")];
        assert_eq!(said, wanted.map(|(c, b)| (c, b.to_vec())));
    }
}

#[test]
fn a_half_close_names_one_channel_and_only_v5_has_it() {
    let bytes = [message(b"\x00x"), message(&[255, 0])].concat();
    for step in [1, bytes.len()] {
        let said = read(Coding::BinaryHalfClose, &bytes, step).unwrap();
        assert_eq!(said, [(0, b"x".to_vec()), (0, b"end".to_vec())]);
    }
    let said = read(Coding::Binary, &message(&[255, 0]), 99).unwrap();
    assert_eq!(said, [(255, vec![0])]);
    for wrong in [&[255][..], &[255, 0, 0]] {
        let refused = read(Coding::BinaryHalfClose, &message(wrong), 1);
        assert_eq!(refused.unwrap_err(), ChannelError::HalfClose);
    }
}

#[test]
fn base64_comes_in_pieces_too() {
    let text = |payload: &[u8]| fragment(Data::Text, true, payload);
    let bytes = [
        text(b"0aGVsbG8="),
        text(b"4e30="),
        fragment(Data::Text, false, b"0IHd"),
        fragment(Data::Continue, true, b"vcmxk"),
    ]
    .concat();
    for step in [1, 3, 17, bytes.len()] {
        let said = read(Coding::Base64, &bytes, step).unwrap();
        let wanted: [(u8, &[u8]); 3] = [(0, b"hello"), (4, b"{}"), (0, b" world")];
        assert_eq!(said, wanted.map(|(c, b)| (c, b.to_vec())));
    }
}

#[test]
fn what_is_no_base64_is_refused() {
    for wrong in [&b"0aGVsbG8"[..], b"0!!!!", b"0YQ==YQ==", b"0YQ==Y"] {
        for step in [1, 100] {
            let refused = read(Coding::Base64, &fragment(Data::Text, true, wrong), step);
            assert_eq!(refused.unwrap_err(), ChannelError::Base64, "{wrong:?}");
        }
    }
}
