//! A server of one answer, for tests that need a real `tokio_postgres::Error`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::NoTls;

/// An ErrorResponse.
pub(super) fn error_response(code: &str, message: &str, detail: Option<&str>) -> Vec<u8> {
    let mut fields = Vec::new();
    let detail = detail.map(|detail| (b'D', detail));
    let always = [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', code),
        (b'M', message),
    ];
    for (field, value) in always.into_iter().chain(detail) {
        fields.push(field);
        fields.extend(value.bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(4 + fields.len()).unwrap();
    [&b"E"[..], &length.to_be_bytes(), &fields].concat()
}

/// What tokio-postgres makes of `response` to its start-up message.
pub(super) async fn answer(response: &[u8]) -> tokio_postgres::Error {
    let (client, mut server) = tokio::io::duplex(4096);
    let mut config = tokio_postgres::Config::new();
    config
        .user("test")
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    let answering = async {
        server.read_u8().await.unwrap();
        server.write_all(response).await.unwrap();
        server
    };
    let (connected, _server) = tokio::join!(config.connect_raw(client, NoTls), answering);
    match connected {
        Ok(_) => panic!("connected to a server that refuses"),
        Err(error) => error,
    }
}
