//! The wire between the two peers: it can be cut, and it counts what goes over it.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

/// A stretch of TCP on loopback that hands every byte on.
pub(super) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    cut: AtomicBool,
    closing: AtomicBool,
    bytes: AtomicU64,
    /// Both ends of every connection that was made, to close them.
    streams: Mutex<Vec<TcpStream>>,
}

impl Wire {
    /// A wire to `target`.
    pub(super) fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            cut: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("demo-wire".to_owned())
            .spawn(move || accept(&listener, &accepting))?;
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where to connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that went over the wire in both directions, as TCP payload.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Cuts every connection; attempts at one end at once until [`mend`](Self::mend).
    pub(super) fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.close_all();
    }

    /// Lets connections through again.
    pub(super) fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.close_all();
        // Wakes the acceptor out of its wait.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn close_all(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            // A stream that ended already cannot be shut down, and need not.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connects `near` with the target and hands bytes on both ways.
    fn join(self: &Arc<Self>, near: TcpStream) -> io::Result<()> {
        let far = TcpStream::connect(self.target)?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(near.try_clone()?);
            streams.push(far.try_clone()?);
        }
        if self.cut.load(Ordering::SeqCst) {
            self.close_all();
        }
        self.pump(near.try_clone()?, far.try_clone()?)?;
        self.pump(far, near)
    }

    /// Hands bytes on in one direction until either end closes. The thread ends with the streams,
    /// which the wire closes at the latest when it is dropped.
    fn pump(self: &Arc<Self>, mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("demo-wire".to_owned())
            .spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    // Before they are handed on: whoever has them also finds them counted.
                    shared.bytes.fetch_add(count as u64, Ordering::SeqCst);
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            })
            .map(|_| ())
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for near in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(near) = near else { continue };
        if shared.cut.load(Ordering::SeqCst) {
            drop(near);
            continue;
        }
        // A target that is away is what the wire is there to show; the peer dials again.
        let _ = shared.join(near);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_carries_counts_and_can_be_cut() {
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Wire::to(target.local_addr().unwrap()).unwrap();
        let mut near = TcpStream::connect(wire.address()).unwrap();
        let (mut far, _) = target.accept().unwrap();
        near.write_all(b"hello").unwrap();
        let mut buffer = [0; 5];
        far.read_exact(&mut buffer).unwrap();
        far.write_all(&buffer).unwrap();
        near.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        wire.cut();
        assert_eq!(near.read(&mut buffer).unwrap_or(0), 0);
        assert_eq!(far.read(&mut buffer).unwrap_or(0), 0);
        assert_eq!(wire.bytes(), 10);
        let mut refused = TcpStream::connect(wire.address()).unwrap();
        assert_eq!(refused.read(&mut buffer).unwrap_or(0), 0);
        wire.mend();
        let mut near = TcpStream::connect(wire.address()).unwrap();
        let (mut far, _) = target.accept().unwrap();
        far.write_all(b"again").unwrap();
        near.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"again");
    }
}
