//! When two worlds are the same: what is over is forgotten, and the rest counted
//! anew. Each field is named: a new one has to be thought of here.

use std::hash::{Hash, Hasher};

use super::world::{Asked, FAR, Holder, NEVER, Poll, World};

impl World {
    /// Forgets what is over, and counts anew what is not.
    pub(super) fn normalise(&mut self) {
        let renamed = self.machine.rename();
        for holder in &mut self.holders {
            holder.lease = holder.lease.map(|id| renamed.lease(id));
        }
        for (number, _) in &mut self.attempts {
            *number = renamed.attempt(*number);
        }
        self.attempts.sort_by_key(|(number, _)| *number);
        match &mut self.poll {
            Poll::No => {}
            Poll::Begun { mark } | Poll::Flushed { mark } => *mark = renamed.mark(*mark),
        }
        self.machine.forget_after(self.now + FAR, self.now + NEVER);
        self.forget_requests();
        self.forget_holders();
    }

    fn forget_requests(&mut self) {
        let sink = self.sink.as_ref().map(|sink| usize::from(sink.whose));
        let over = (0..self.asked.len()).take_while(|&number| {
            let tail = sink == Some(number) || self.is_buffered(number);
            self.asked[number].answered && !self.in_flight(number) && !tail
        });
        let by = u8::try_from(over.count()).expect("few requests");
        if by == 0 {
            return;
        }
        self.asked.drain(..usize::from(by));
        let shift = |number: &mut u8| *number -= by;
        self.queue.iter_mut().for_each(shift);
        self.unanswered.iter_mut().for_each(shift);
        for segment in &mut self.segments {
            segment.whose -= by;
        }
        if let Some(sink) = &mut self.sink {
            sink.whose -= by;
        }
        self.wake = self.wake.and_then(|number| number.checked_sub(by));
        self.server.shift(by);
    }

    /// What is known of a holder that nothing depends on any more is all alike.
    fn forget_holders(&mut self) {
        for number in 0..self.holders.len() {
            let at = Some(u8::try_from(number).expect("few holders"));
            let held = self.check_out == at || self.operation == at;
            let asks = |asked: &Asked| Some(asked.holder) == at || asked.counts_as == at;
            let parent = self.holders.iter().any(|below| below.parent == at);
            let within = self.holders[number].parent == self.check_out;
            if !held && !parent && !within && !self.asked.iter().any(asks) {
                self.holders[number] = Holder::forgotten();
            }
        }
    }
}

impl Holder {
    fn forgotten() -> Self {
        Holder {
            parent: None,
            lease: None,
            deadline: None,
            ended: true,
            finished: false,
        }
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let World {
            plan: _,
            machine,
            now: _,
            server,
            holders,
            check_out,
            operation,
            asked,
            queue,
            segments,
            sink,
            unanswered,
            poll,
            registered,
            wake,
            up,
            cut,
            delivered,
            told_failed,
            told_open,
            attempts,
            late_signals,
            broke_off,
            cancelled_by_proxy,
            client_gone,
            left,
            breach: _,
        } = self;
        (machine, server, holders, check_out, operation, asked).hash(state);
        (queue, segments, sink, unanswered, poll, registered, wake).hash(state);
        (up, cut, delivered, told_failed, told_open, attempts).hash(state);
        (
            late_signals,
            broke_off,
            cancelled_by_proxy,
            client_gone,
            left,
        )
            .hash(state);
    }
}
