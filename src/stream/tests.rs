//! One test a sentence of the module's rules.

use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::DeadlineStream;

const MS: Duration = Duration::from_millis(1);

fn after(time: Duration) -> Option<Instant> {
    Some(Instant::now() + time)
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_at_its_deadline_and_says_so() {
    let (near, _far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let start = Instant::now();
    stream.set_read_deadline(after(20 * MS));

    let error = stream.read_u8().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "the read deadline has passed");
    assert_eq!(start.elapsed(), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_write_ends_at_its_deadline_and_says_so() {
    let (near, _far) = tokio::io::duplex(1);
    let mut stream = DeadlineStream::new(near);
    let start = Instant::now();
    stream.set_write_deadline(after(20 * MS));

    let error = stream.write_all(b"ab").await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "the write deadline has passed");
    assert_eq!(start.elapsed(), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn rule_1_a_deadline_is_absolute_and_holds_for_every_later_operation() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let start = Instant::now();
    stream.set_read_deadline(after(30 * MS));
    far.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    tokio::time::advance(10 * MS).await;

    let error = stream.read_u8().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), 30 * MS);
    assert_eq!(
        stream.read_u8().await.unwrap_err().kind(),
        ErrorKind::TimedOut
    );
}

#[tokio::test(start_paused = true)]
async fn rule_2_past_means_at_once_even_with_bytes_at_hand() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    far.write_all(b"a").await.unwrap();
    stream.set_deadline(Some(Instant::now()));

    assert_eq!(
        stream.read_u8().await.unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!(
        stream.write_u8(1).await.unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    stream.flush().await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_3_a_deadline_set_while_a_read_is_pending_ends_it() {
    let (near, _far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let handle = stream.deadlines();
    let start = Instant::now();
    let read = tokio::spawn(async move { stream.read_u8().await });
    tokio::time::sleep(5 * MS).await;

    handle.set_read_deadline(after(5 * MS));

    assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), 10 * MS);
}

#[tokio::test(start_paused = true)]
async fn rule_3_a_deadline_moved_earlier_while_pending_ends_it_earlier() {
    let (near, _far) = tokio::io::duplex(1);
    let mut stream = DeadlineStream::new(near);
    let handle = stream.deadlines();
    let start = Instant::now();
    stream.set_write_deadline(after(100 * MS));
    let write = tokio::spawn(async move { stream.write_all(b"ab").await });
    tokio::time::sleep(5 * MS).await;

    handle.set_write_deadline(after(5 * MS));

    assert_eq!(
        write.await.unwrap().unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!(start.elapsed(), 10 * MS);
}

#[tokio::test(start_paused = true)]
async fn rule_3_a_deadline_moved_to_the_past_while_pending_ends_it_now() {
    let (near, _far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let handle = stream.deadlines();
    let start = Instant::now();
    stream.set_read_deadline(after(100 * MS));
    let read = tokio::spawn(async move { stream.read_u8().await });
    tokio::time::sleep(5 * MS).await;

    handle.set_deadline(Some(start));

    assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), 5 * MS);
}

#[tokio::test(start_paused = true)]
async fn rule_3_a_deadline_moved_later_while_pending_ends_it_later() {
    let (near, _far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let handle = stream.deadlines();
    let start = Instant::now();
    stream.set_read_deadline(after(10 * MS));
    let read = tokio::spawn(async move { stream.read_u8().await });
    tokio::time::sleep(5 * MS).await;

    handle.set_read_deadline(Some(start + 40 * MS));

    assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), 40 * MS);
}

#[tokio::test(start_paused = true)]
async fn rule_4_none_means_never() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let handle = stream.deadlines();
    stream.set_read_deadline(after(10 * MS));
    let read = tokio::spawn(async move { stream.read_u8().await });
    tokio::time::sleep(5 * MS).await;
    handle.set_read_deadline(None);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!read.is_finished());

    far.write_all(b"a").await.unwrap();

    assert_eq!(read.await.unwrap().unwrap(), b'a');
}

#[tokio::test(start_paused = true)]
async fn rule_5_the_stream_works_on_once_the_deadline_is_moved() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    stream.set_deadline(after(MS));
    assert_eq!(
        stream.read_u8().await.unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    stream.set_deadline(None);
    far.write_all(b"a").await.unwrap();

    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    stream.write_all(b"b").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'b');
}

#[tokio::test(start_paused = true)]
async fn read_and_write_of_two_tasks_share_the_timer_and_both_end_in_time() {
    for (read_time, write_time) in [(10, 30), (30, 10)] {
        let (near, _far) = tokio::io::duplex(1);
        let stream = DeadlineStream::new(near);
        let start = Instant::now();
        stream.set_read_deadline(after(read_time * MS));
        stream.set_write_deadline(after(write_time * MS));
        let (mut reader, mut writer) = tokio::io::split(stream);

        let read = tokio::spawn(async move {
            let error = reader.read_u8().await.unwrap_err();
            (error.kind(), Instant::now())
        });
        let write = tokio::spawn(async move {
            let error = writer.write_all(b"ab").await.unwrap_err();
            (error.kind(), Instant::now())
        });

        let timed_out = ErrorKind::TimedOut;
        assert_eq!(read.await.unwrap(), (timed_out, start + read_time * MS));
        assert_eq!(write.await.unwrap(), (timed_out, start + write_time * MS));
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut DeadlineStream<S>,
    waker: &Waker,
) -> Poll<std::io::Result<()>> {
    let mut buf = [0; 8];
    Pin::new(stream).poll_read(&mut Context::from_waker(waker), &mut ReadBuf::new(&mut buf))
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_made_for_a_pending_operation_only_and_freed_with_the_deadline() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());

    assert!(poll_read(&mut stream, &waker).is_pending());
    assert!(stream.timer.is_none(), "no deadline, no timer");

    far.write_all(b"a").await.unwrap();
    stream.set_read_deadline(after(10 * MS));
    assert!(poll_read(&mut stream, &waker).is_ready());
    assert!(stream.timer.is_none(), "ready at once, no timer");

    assert!(poll_read(&mut stream, &waker).is_pending());
    assert!(stream.timer.is_some());

    let before = count.get();
    stream.set_read_deadline(None);
    assert_eq!(count.get(), before + 1, "woken, to free the timer");
    assert!(poll_read(&mut stream, &waker).is_pending());
    assert!(stream.timer.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pending_task_is_woken_by_a_move_that_concerns_it_and_by_no_other() {
    let (near, _far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let now = Instant::now();
    assert!(poll_read(&mut stream, &waker).is_pending());

    stream.set_write_deadline(Some(now + 5 * MS));
    assert_eq!(count.get(), 0, "another direction");
    stream.set_read_deadline(Some(now + 20 * MS));
    assert_eq!(count.get(), 1, "never to some time");
    assert!(poll_read(&mut stream, &waker).is_pending());
    stream.set_read_deadline(Some(now + 30 * MS));
    assert_eq!(count.get(), 1, "later");
    stream.set_read_deadline(Some(now + 10 * MS));
    assert_eq!(count.get(), 2, "earlier");
    stream.set_read_deadline(Some(now + 5 * MS));
    assert_eq!(count.get(), 2, "already woken");
}

#[tokio::test(start_paused = true)]
async fn the_last_task_to_poll_is_the_one_that_is_woken() {
    let (near, _far) = tokio::io::duplex(64);
    let mut stream = DeadlineStream::new(near);
    let (first, last) = (Arc::new(Count::default()), Arc::new(Count::default()));
    assert!(poll_read(&mut stream, &Waker::from(first.clone())).is_pending());
    assert!(poll_read(&mut stream, &Waker::from(last.clone())).is_pending());

    stream.set_read_deadline(after(MS));

    assert_eq!((first.get(), last.get()), (0, 1));
}

/// Takes whole vectored writes and only those.
#[derive(Default)]
struct Vectored(Vec<u8>);

impl AsyncWrite for Vectored {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        panic!("not vectored");
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let before = self.0.len();
        bufs.iter().for_each(|buf| self.0.extend_from_slice(buf));
        Poll::Ready(Ok(self.0.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn vectored_writes_are_passed_on_and_have_the_deadline_too() {
    let mut stream = DeadlineStream::new(Vectored::default());
    assert!(stream.is_write_vectored());
    let bufs = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
    assert_eq!(stream.write_vectored(&bufs).await.unwrap(), 4);
    assert_eq!(stream.get_ref().0, b"abcd");

    stream.set_write_deadline(Some(Instant::now()));

    let error = stream.write_vectored(&bufs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_stream_can_be_sent_and_shared() {
    fn check<T: Send + Sync>() {}
    check::<DeadlineStream<tokio::net::TcpStream>>();
}
