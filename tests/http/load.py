# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many who ask a server at once, while something happens to it."""

import http.client
import random
import threading

from common import wait_until


class Load:
    """with Load(server, answers, clients): … asks all the time; failed tells what was wrong.

    server: has get(path), an Answer.
    answers: what bodies may come, by path."""

    def __init__(self, server, answers, clients=8):
        self.server, self.answers = server, answers
        self.failed, self.done, self.ended = [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]

    def run(self, seed):
        paths, chosen = list(self.answers), random.Random(seed)
        while not self.ended.is_set():
            path = chosen.choice(paths)
            try:
                answer = self.server.get(path)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                continue
            if answer.status != 200 or answer.body not in self.answers[path]:
                self.failed.append(f"{path}: {answer}")
            self.done += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def restart(self, daemon, times, before=lambda: None):
        """Has the daemon restarted, and killed and started, by turns; before each there are answers, and before() is called."""
        for i in range(times):
            self.wait(20)
            before()
            if i % 2:
                daemon.kill()
                daemon.start()
            else:
                daemon.restart()

    def wait(self, more):
        """Until so many more answers came."""
        goal = self.done + more
        wait_until(lambda: self.done >= goal, f"{more} more answers")
