/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bytes together with open descriptors over Unix sockets: the one place that touches SCM_RIGHTS.
 *
 * Two faces. fdpass_send() and fdpass_recv() carry whole messages: an operation type, bytes, and 0 to
 * FDPASS_MAX_FDS descriptors, over stream, seqpacket and datagram sockets. fdpass_write() and fdpass_read()
 * are for byte streams with a framing of their own; struct fdpass_queue then tells which descriptor belongs
 * to which frame, also when some were lost on the way.
 *
 * Nothing here keeps state between calls or threads; a queue belongs to one thread. Descriptors are always
 * received close-on-exec, SIGPIPE is never raised. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "cleanup.h"

#define FDPASS_MAX_FDS 253 /* the kernel's SCM_MAX_FD */

/* Bytes before the payload of a message: the operation type, and the payload's size, both 32 bit
 * little-endian. */
#define FDPASS_HEADER_SIZE 8

/* Received descriptors, owned by whoever holds the struct until taken. */
struct fdpass_fds {
        size_t n;
        bool truncated; /* the sender sent more than arrived: no descriptor free here, or a security module */
        int fd[FDPASS_MAX_FDS];
};

/* Closes them all; the struct is empty then, and says nothing of what was lost. errno is kept. */
void fdpass_fds_close(struct fdpass_fds *fds);

/* Writes bytes of iov with n_fds descriptors, which stay the caller's, in one sendmsg(). The descriptors go
 * with the first byte, so a short count has sent all of them. Returns the bytes sent (at least 1), or
 *   -EINVAL        no byte to send, or more than FDPASS_MAX_FDS descriptors, or more than IOV_MAX parts
 *   -EAGAIN        the socket is full (non-blocking)
 *   -ETOOMANYREFS  too many descriptors of this user are in flight: wait until they were received
 *   -EPIPE, -ECONNRESET  the peer is gone
 * or any other errno of sendmsg(2), negative. */
ssize_t fdpass_write(int socket, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds);
/* The same of size bytes alone, for less. */
ssize_t fdpass_write_bytes(int socket, const void *bytes, size_t size);

/* Reads up to size bytes in one recvmsg(); descriptors that came with them are in ret_fds (n may be 0). At
 * most one fdpass_write()'s descriptors come with one call. Every control message is taken apart: descriptors
 * beyond FDPASS_MAX_FDS and control messages of other kinds are dropped, what they open is closed. ret_fds
 * NULL: no descriptor is received at all; the kernel drops what was sent, and none of it is opened here.
 * It never waits, whether the socket is non-blocking or not. Returns the bytes read, 0 at the end of the
 * stream, -EAGAIN when nothing is there, or another errno of recvmsg(2), negative; in the last three cases
 * ret_fds is empty. */
ssize_t fdpass_read(int socket, void *buffer, size_t size, struct fdpass_fds *ret_fds);

/* Sends one whole message. to: the destination of an unconnected datagram socket, or NULL for a connected
 * one. data may be NULL when size is 0. A stream socket that fills up after the first byte is waited for,
 * also when it is non-blocking, so that a message is never sent in part; SO_SNDTIMEO, where set, bounds each
 * wait. Returns 0, or
 *   -EINVAL        too many descriptors, or size over UINT32_MAX
 *   -EMSGSIZE      larger than the socket takes in one packet
 *   -EAGAIN        nothing was sent, and would have had to wait
 *   -ETOOMANYREFS  as for fdpass_write()
 *   -ETIMEDOUT, -EPIPE, -ECONNRESET  perhaps in the middle of a message: a stream is of no use any more
 * or another errno of sendmsg(2), negative. */
int fdpass_send(int socket,
                const struct sockaddr *to,
                socklen_t to_size,
                uint32_t operation,
                const void *data,
                size_t size,
                const int *fds,
                size_t n_fds);

/* Receives one whole message of at most size payload bytes, and nothing of the one after it. data may be NULL
 * when size is 0.
 * ret_operation, ret_size: what was sent. ret_fds: as for fdpass_read(), NULL to receive none; descriptors
 * that a stream brings later than with the first byte belong to no message and are dropped. from, from_size:
 * the sender's address, as for recvfrom(2), or NULL both.
 * Once the first byte of a stream's message is here the rest is waited for, on a non-blocking socket too;
 * SO_RCVTIMEO, where set, bounds each wait. Returns
 *   1           a message was received
 *   0           the stream or the connection ended before a message
 *   -EMSGSIZE   the payload is larger than size: the message was consumed, its descriptors closed
 *   -EBADMSG    the header lies about the size or is missing, or the stream ended inside a message
 *   -ETIMEDOUT  the stream stopped inside a message
 *   -EAGAIN     nothing there
 * or any other errno of recvmsg(2), negative. A stream is of no use after -EBADMSG and -ETIMEDOUT. Unless 1
 * is returned ret_fds is empty. That descriptors were lost is not an error here: ret_fds->truncated says so. */
int fdpass_recv(int socket,
                uint32_t *ret_operation,
                void *data,
                size_t size,
                size_t *ret_size,
                struct fdpass_fds *ret_fds,
                struct sockaddr *from,
                socklen_t *from_size);

/* The batches of descriptors that came with a stream's bytes, oldest first. Each frame that owns a descriptor
 * carries its index in its batch and the batch's count; index 0 starts a batch. The kernel hands over the
 * first of a batch when not all fit, so the indices that were not received are lost, and only those.
 *
 * What waits is bounded: an honest peer's batches are claimed by frames that come with them, so a queue that
 * is full belongs to a stream that lies, or to a caller that reads on and on without looking at its frames. */
struct fdpass_queue;

#define FDPASS_QUEUE_BATCHES_MAX 1024
#define FDPASS_QUEUE_FDS_MAX     4096

/* -ENOMEM. No other function of a queue allocates. */
int fdpass_queue_new(struct fdpass_queue **ret);
/* Closes what was not taken. NULL is fine. */
void fdpass_queue_free(struct fdpass_queue *queue);
DEFINE_CLEANUP(struct fdpass_queue, fdpass_queue_free)

/* Takes all descriptors of fds, which is empty then, and keeps that some were lost; call it after each
 * fdpass_read() that returned bytes. Nothing happens when there are no descriptors and none was lost: a read
 * that lost all of a batch's is a batch too. Returns 0, or -ENOBUFS: too much waits, or the queue was given
 * up; everything is closed, give up the stream. */
int fdpass_queue_push(struct fdpass_queue *queue, struct fdpass_fds *fds);

/* The descriptor of the next frame that owns one, in the order of the frames in the stream; call it for each
 * of them, also where the descriptor is of no use. With the last index of a batch, what the peer sent beyond
 * count is closed. Returns a descriptor that the caller owns, or
 *   -ENOLINK  this one was lost on the way (the local limit was reached): later ones are not affected
 *   -EBADMSG  index and count do not follow those before, or no batch or too small a one arrived: the peer
 *             lies. Everything that waits is closed, and nothing can be taken any more: give up the stream.
 */
int fdpass_queue_take(struct fdpass_queue *queue, unsigned index, unsigned count);
