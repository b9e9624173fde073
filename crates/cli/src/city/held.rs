//! A port that stays its owner's while nobody listens on it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpSocket;

/// A loopback port, held for the role that listens on it now and then. While the role is away,
/// who dials it is refused, and the system gives the port to nobody else: a role that starts again
/// finds its address free. Bound with `SO_REUSEADDR` and never listening, which is what lets the
/// role's own socket bind beside it (`socket(7)`).
#[derive(Debug)]
pub struct HeldPort(TcpSocket);

impl HeldPort {
    /// Holds a port that is free.
    pub fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self(socket))
    }

    /// The address to listen on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_port_is_there_for_who_listens_again_and_again() {
        let held = HeldPort::new().unwrap();
        let address = held.address().unwrap();
        for _ in 0..3 {
            let listener = TcpListener::bind(address).await.unwrap();
            let client = TcpStream::connect(address).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            drop((server, listener, client));
            let refused = TcpStream::connect(address).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    }
}
