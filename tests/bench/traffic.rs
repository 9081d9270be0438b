//! Small traffic for the bench: an echo server, and clients that time one question after the other.
//!
//! ```text
//! traffic serve PORT                 echoes on TCP and UDP until it is killed; says "ready"
//! traffic once ADDRESS:PORT COUNT    a TCP connection a question
//! traffic again ADDRESS:PORT COUNT   one TCP connection for all questions
//! traffic udp ADDRESS:PORT COUNT     a datagram a question
//! traffic lookup ADDRESS:PORT COUNT NAME…
//!                                    an A query a question, of one name after the other; each must have an answer
//! ```
//!
//! Clients print the median, the 10th and the 90th percentile in microseconds.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that are not counted: caches and connection tracking warm up.
const WARM: usize = 50;

fn serve(port: u16) -> Result<()> {
    let datagrams = UdpSocket::bind(("0.0.0.0", port))?;
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
            // One that cannot be answered is the client's loss.
            let _ = datagrams.send_to(&bytes[..length], from);
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("ready");
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        let mut bytes = [0; 64];
        // A client that went away ends its own connection only.
        while let Ok(length) = stream.read(&mut bytes) {
            if length == 0 || stream.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn ask(stream: &mut TcpStream) -> Result<()> {
    let mut answer = [0; 4];
    stream.write_all(b"ping")?;
    stream.read_exact(&mut answer)
}

fn connect(to: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn datagrams(to: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// An A query with the given number.
fn query(number: u16, name: &str) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label is short"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn lookup(socket: &UdpSocket, number: u16, name: &str) -> Result<()> {
    socket.send(&query(number, name))?;
    let mut bytes = [0; 2048];
    let length = socket.recv(&mut bytes)?;
    let fits = length > 12 && bytes[..2] == number.to_be_bytes();
    if !fits || bytes[3] & 15 != 0 || bytes[6..8] == [0, 0] {
        return Err(Error::new(ErrorKind::InvalidData, format!("no address for {name}: {:?}", &bytes[..length])));
    }
    Ok(())
}

fn timed(count: usize, mut question: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let mut took = Vec::with_capacity(count);
    for number in 0..WARM + count {
        let begun = Instant::now();
        question(number)?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let mut took = took.split_off(WARM);
    took.sort_by(f64::total_cmp);
    println!("{:.2} {:.2} {:.2}", took[count / 2], took[count / 10], took[count * 9 / 10]);
    Ok(())
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().map_err(|_| Error::new(ErrorKind::InvalidInput, text.to_owned()));
    match words[..] {
        ["serve", port] => serve(port.parse().map_err(|_| Error::from(ErrorKind::InvalidInput))?),
        ["once", to, count] => timed(number(count)?, |_| ask(&mut connect(to)?)),
        ["again", to, count] => {
            let mut stream = connect(to)?;
            timed(number(count)?, |_| ask(&mut stream))
        }
        ["udp", to, count] => {
            let socket = datagrams(to)?;
            timed(number(count)?, |_| {
                socket.send(b"ping")?;
                socket.recv(&mut [0; 4]).map(drop)
            })
        }
        ["lookup", to, count, ref names @ ..] if !names.is_empty() => {
            let socket = datagrams(to)?;
            timed(number(count)?, |n| {
                let number = u16::try_from(n % 65_536).expect("it is below 65,536");
                lookup(&socket, number, names[n % names.len()])
            })
        }
        _ => Err(Error::new(ErrorKind::InvalidInput, "usage: traffic serve|once|again|udp|lookup …")),
    }
}
