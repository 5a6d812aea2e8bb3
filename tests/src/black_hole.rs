//! An address that neither accepts nor refuses, on this machine.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A listener whose queue is full: whoever connects waits.
pub struct BlackHole {
    address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl BlackHole {
    /// Opens one; it stays one until it is dropped.
    ///
    /// # Panics
    /// When there is no port.
    pub fn open() -> BlackHole {
        let listener = socket();
        let any: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        listener.bind(&any.into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("a bound listener");
        // A queue of none still holds one, and on some systems a few more.
        let mut sockets = vec![listener];
        for _ in 0..8 {
            let filler = socket();
            let _ = filler.connect(&address);
            sockets.push(filler);
        }
        BlackHole {
            address: address.as_socket().expect("an IPv4 address"),
            _sockets: sockets,
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .set_nonblocking(true)
        .expect("a socket that does not wait");
    socket
}
