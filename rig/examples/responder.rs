//! The far end of `scripts/bench.sh`, as cheap as a program of one thread can be, so that what is measured is the
//! server in front of it.
//!
//! * `responder echo ADDR`: each datagram goes back as a response, one receive and one send for each: the floor that the
//!   system sets for a server of the usual kind.
//! * `responder echo-batched ADDR`: the same with up to sixteen a call: the floor for one that batches.
//! * `responder answer ADDR`: an authoritative server for every name: type A is 192.0.2.1 for an hour, or for a second
//!   where the name begins with `brief`; every other type is no data, OPT is answered by OPT. Over TCP
//!   too, one query at a time on a connection.
//!
//! It checks nothing and is for loopback only.

use std::env;
use std::error::Error;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::thread;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

/// Messages per call.
const BATCH: usize = 16;
/// Largest message read.
const MESSAGE_BYTES: usize = 512;
/// How long answers live, seconds.
const TTL_S: u32 = 3_600;
/// The beginning of a name whose answers live for a second.
const BRIEF: &[u8] = b"brief";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "responder: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mode, address] = arguments.as_slice() else {
        return Err("usage: responder echo|echo-batched|answer ADDR:PORT".into());
    };
    let socket = UdpSocket::bind(address.parse::<SocketAddr>()?)?;
    match mode.as_str() {
        "echo" => echo(&socket),
        "echo-batched" => batched(&socket, to_response),
        "answer" => {
            let listener = TcpListener::bind(socket.local_addr()?)?;
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // Whatever ends a connection ends it alone.
                    thread::spawn(move || drop(framed(stream)));
                }
            });
            batched(&socket, to_answer)
        }
        other => Err(format!("unknown mode {other}").into()),
    }
}

fn echo(socket: &UdpSocket) -> Result<(), Box<dyn Error>> {
    let mut buffer = [0; MESSAGE_BYTES];
    loop {
        let (size, client) = socket.recv_from(&mut buffer)?;
        let size = to_response(&mut buffer, size);
        drop(socket.send_to(buffer.get(..size).unwrap_or_default(), client));
    }
}

/// Rewrites the message of `size` octets in the buffer; the size of what goes back.
type Rewrite = fn(&mut [u8; MESSAGE_BYTES], usize) -> usize;

fn batched(socket: &UdpSocket, rewrite: Rewrite) -> Result<(), Box<dyn Error>> {
    let fd = socket.as_raw_fd();
    let mut buffers = [[0_u8; MESSAGE_BYTES]; BATCH];
    let mut received = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut sent = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    loop {
        let mut clients = [(0, None); BATCH];
        let mut count = 0;
        {
            let mut parts = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            for message in recvmmsg(fd, &mut received, &mut parts, MsgFlags::MSG_WAITFORONE, None)? {
                if let Some(client) = clients.get_mut(count) {
                    *client = (message.bytes, message.address);
                }
                count += 1;
            }
        }
        for ((size, _), buffer) in clients.iter_mut().zip(&mut buffers).take(count) {
            *size = rewrite(buffer, *size);
        }
        let mut parts = [[IoSlice::new(&[])]; BATCH];
        for ((part, buffer), (size, _)) in parts.iter_mut().zip(&buffers).zip(&clients) {
            *part = [IoSlice::new(buffer.get(..*size).unwrap_or_default())];
        }
        let addresses = clients.map(|(_, client)| client);
        let (parts, addresses) = (parts.get(..count), addresses.get(..count));
        let (parts, addresses) = (parts.unwrap_or_default(), addresses.unwrap_or_default());
        drop(sendmmsg(fd, &mut sent, parts, addresses, [], MsgFlags::empty()));
    }
}

/// Answers the queries of a connection.
fn framed(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0_u8; MESSAGE_BYTES];
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let size = usize::from(u16::from_be_bytes(length));
        stream.read_exact(message.get_mut(..size).ok_or(io::ErrorKind::InvalidData)?)?;
        let size = to_answer(&mut message, size);
        let length = u16::try_from(size).map_err(|_too_long| io::ErrorKind::InvalidData)?;
        let frame = [&length.to_be_bytes(), message.get(..size).unwrap_or_default()].concat();
        stream.write_all(&frame)?;
    }
}

/// Sets QR and RA.
fn to_response(message: &mut [u8; MESSAGE_BYTES], size: usize) -> usize {
    let [_, _, first, second, ..] = message;
    *first |= 0x80;
    *second |= 0x80;
    size
}

/// Answers the first question of a query; what is none goes back as it came.
fn to_answer(message: &mut [u8; MESSAGE_BYTES], size: usize) -> usize {
    answer(message, size).unwrap_or(0)
}

fn answer(message: &mut [u8; MESSAGE_BYTES], size: usize) -> Option<usize> {
    let mut at = 12;
    loop {
        let label = usize::from(*message.get(at).filter(|_| at < size)?);
        at += label + 1;
        if label == 0 {
            break;
        }
    }
    let is_address = message.get(at..at + 2)? == [0, 1];
    let has_opt = message.get(10..12)? != [0, 0];
    let mut tail = [0_u8; 64];
    let mut used = 0;
    let mut push = |bytes: &[u8]| {
        if let Some(place) = tail.get_mut(used..used + bytes.len()) {
            place.copy_from_slice(bytes);
            used += bytes.len();
        }
    };
    let is_brief = message.get(13..).is_some_and(|name| name.starts_with(BRIEF));
    let ttl = if is_brief { 1_u32 } else { TTL_S }.to_be_bytes();
    if is_address {
        push(&[0xC0, 0x0C, 0, 1, 0, 1]);
        push(&ttl);
        push(&[0, 4, 192, 0, 2, 1]);
    } else {
        // SOA of the root with empty names: five numbers behind them.
        push(&[0, 0, 6, 0, 1]);
        push(&ttl);
        push(&[0, 22, 0, 0]);
        push(&[0; 16]);
        push(&ttl);
    }
    if has_opt {
        push(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    let end = at + 4;
    message.get_mut(end..end + used)?.copy_from_slice(tail.get(..used)?);
    // QR, AA and RA; RD as it came.
    let flags = message.get_mut(2..4)?;
    flags.copy_from_slice(&[flags.first()? & 1 | 0x84, 0x80]);
    let counts = [
        0,
        1,
        0,
        u8::from(is_address),
        0,
        u8::from(!is_address),
        0,
        u8::from(has_opt),
    ];
    message.get_mut(4..12)?.copy_from_slice(&counts);
    Some(end + used)
}
