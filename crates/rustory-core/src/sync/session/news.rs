//! Between rounds: what is typed goes over at once, and both find that they are the same again.
//!
//! Everybody sends its own entries. Those of a third device are passed on where the peer does not
//! get them from there: it lacked some of them long after they came here. It is found to get them by
//! itself when news of them brings nothing new, or when it sends some.

use super::*;

impl Session {
    pub(super) fn tell_news(&mut self, effects: &mut Effects) {
        let idle = match self.role {
            Role::Asker => self.stage == Stage::Live,
            Role::Answerer => self.greeted && self.is_idle(),
        };
        if self.grew && self.stays() && idle && !self.news_out {
            self.grew = false;
            self.news_out = true;
            let (after, others) = (self.news_after, self.relies.iter().cloned().collect());
            self.ask(Request::News { after, others }, Want::News, effects);
            self.ask(Request::Summary, Want::NewsStanding, effects);
        }
    }

    pub(super) fn send_news(&mut self, ours: &Summary, effects: &mut Effects) {
        let Some(piece) = self.announcing.take() else {
            return;
        };
        let after = self.news_after;
        self.news_after = piece.last.max(after);
        let entries = self.sendable(piece.entries);
        if entries.is_empty() {
            self.news_out = false;
            return self.tell_news(effects);
        }
        let stretch = piece.at_end.then_some(Stretch {
            after,
            last: piece.last,
        });
        self.announce(entries, stretch, ours.standing(), effects);
        // There may be more than fits one message.
        self.grew = true;
    }

    fn announce(
        &mut self,
        entries: Vec<Entry>,
        stretch: Option<Stretch>,
        standing: Standing,
        effects: &mut Effects,
    ) {
        self.report.sent += entries.len() as u64;
        self.announced = Announced {
            told: Some(standing),
            entries: entries.len() as u64,
            others: self.origins_of(&entries),
        };
        effects.push(Effect::Send(Message::News(News {
            entries: entries.into(),
            stretch,
            standing: Some(standing),
        })));
    }

    /// Whose entries these are, but for ours.
    fn origins_of(&self, entries: &[Entry]) -> Vec<String> {
        let mut origins: Vec<String> = entries
            .iter()
            .map(|entry| &entry.device_id)
            .filter(|id| **id != self.local.device_id)
            .cloned()
            .collect();
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    pub(super) fn news(&mut self, news: News, effects: &mut Effects) -> Result<(), SessionError> {
        let hearing = |want: &Want| matches!(want, Want::StoreNews(_) | Want::Hear { .. });
        let (false, Some(peer)) = (self.wants.iter().any(hearing), &self.peer) else {
            return Err(unexpected(&Message::News(news)));
        };
        let claim = news
            .stretch
            .filter(|stretch| stretch.last > stretch.after)
            .map(|stretch| Claim {
                log_id: peer.log_id,
                after: stretch.after,
                last: stretch.last,
            });
        if let (Some(told), true) = (news.standing, news.is_hint()) {
            let inserted = None;
            self.ask(Request::Summary, Want::Hear { told, inserted }, effects);
            return Ok(());
        }
        let peer = peer.device_id.clone();
        let entries = news.entries.entries;
        self.report.received += entries.len() as u64;
        self.report.unreadable += news.entries.unreadable;
        self.note_elsewhere(&entries);
        let request = Request::Store {
            peer,
            entries,
            claim,
        };
        self.ask(request, Want::StoreNews(news.standing), effects);
        Ok(())
    }

    pub(super) fn stored_news(
        &mut self,
        told: Option<Standing>,
        stored: Stored,
        effects: &mut Effects,
    ) {
        let inserted = stored.inserted;
        self.report.inserted += inserted;
        effects.push(Effect::Event(Event::Moved));
        match told {
            Some(told) => {
                let inserted = Some(inserted);
                self.ask(Request::Summary, Want::Hear { told, inserted }, effects);
            }
            None => self.say_heard(inserted, None, effects),
        }
    }

    /// The news is stored: are the two the same now?
    pub(super) fn hear(
        &mut self,
        told: Standing,
        inserted: Option<u64>,
        ours: &Summary,
        effects: &mut Effects,
    ) {
        let tally = ours.tally();
        let same = tally == told.tally;
        self.say_heard(inserted.unwrap_or(0), same.then_some(ours.head), effects);
        if same {
            self.news_after = self.news_after.max(ours.head);
            return self.agree(tally, told.head, effects);
        }
        let may = self.role == Role::Asker && self.stage == Stage::Live && !self.news_out;
        if inserted.is_none() && may {
            self.begin_round(effects);
        }
    }

    fn say_heard(&self, inserted: u64, same: Option<IngestSeq>, effects: &mut Effects) {
        effects.push(Effect::Send(Message::Heard(Some(Heard { inserted, same }))));
    }

    pub(super) fn heard(&mut self, heard: Option<Heard>, effects: &mut Effects) {
        self.news_out = false;
        let announced = std::mem::take(&mut self.announced);
        if let Some(heard) = heard {
            if heard.inserted < announced.entries {
                for device_id in &announced.others {
                    self.relies.remove(device_id);
                }
            }
            if let (Some(told), Some(head)) = (announced.told, heard.same) {
                self.agree(told.tally, head, effects);
            }
        }
        self.tell_news(effects);
    }

    /// Both had this when the peer's log ended at `their_head`.
    fn agree(&mut self, tally: Tally, their_head: IngestSeq, effects: &mut Effects) {
        let Some(peer) = &self.peer else { return };
        if peer.log_id == self.local.log_id {
            return;
        }
        let (peer, log_id) = (peer.device_id.clone(), peer.log_id);
        let compared = Compared {
            ours: tally,
            theirs: tally,
            their_head,
        };
        self.agreed = Some(tally);
        let request = Request::Compared {
            peer,
            log_id,
            compared,
        };
        self.ask(request, Want::Nothing, effects);
        effects.push(Effect::Event(Event::Agreed(compared)));
    }

    /// What goes over after the first round was not here when the peer came, and the peer did not
    /// get it from where it comes from since.
    pub(super) fn note_lacking(&mut self, batch: &Batch) {
        if !self.lived || batch.stretch.is_none() {
            return;
        }
        for device_id in self.origins_of(&batch.entries.entries) {
            if self.relies.len() < RELIES_MAX {
                self.relies.insert(device_id);
            }
        }
    }

    /// The peer sends entries of these devices: it has them from somebody else.
    pub(super) fn note_elsewhere(&mut self, entries: &[Entry]) {
        if !self.relies.is_empty() {
            for entry in entries {
                self.relies.remove(&entry.device_id);
            }
        }
    }

    /// Asks whether there is still what both agreed on, unless that is about to be found anyhow.
    pub(super) fn settle(&mut self, effects: &mut Effects) {
        if self.stays() && self.is_live() && self.wants.is_empty() && !self.news_out {
            self.ask(Request::Summary, Want::Settle, effects);
        }
    }

    pub(super) fn settled(&mut self, ours: &Summary, effects: &mut Effects) {
        let is_so = self.agreed == Some(ours.tally());
        if is_so || !self.is_live() || self.news_out {
            return;
        }
        match self.role {
            Role::Asker => self.begin_round(effects),
            Role::Answerer => {
                self.news_out = true;
                self.announce(Vec::new(), None, ours.standing(), effects);
            }
        }
    }
}
