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

void fdpass_fds_close(struct fdpass_fds *fds);

/* Writes bytes of iov with n_fds descriptors, which stay the caller's, in one sendmsg(). The descriptors go
 * with the first byte, so a short count has sent all of them. Returns the bytes sent (at least 1), or -EINVAL
 * no byte to send, or more than FDPASS_MAX_FDS descriptors, or more than IOV_MAX parts -EAGAIN the socket is
 * full (non-blocking) -ETOOMANYREFS too many descriptors of this user are in flight: wait until they were
 * received -EPIPE, -ECONNRESET the peer is gone; any other errno of sendmsg(2), negative. */
ssize_t fdpass_write(int socket, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds);

/* Reads up to size bytes in one recvmsg(); descriptors that came with them are in ret_fds (n may be 0). At
 * most one fdpass_write()'s descriptors come with one call. Every control message is taken apart: descriptors
 * beyond FDPASS_MAX_FDS and control messages of other kinds are dropped, the former closed. ret_fds NULL: no
 * descriptor is received at all; the kernel drops what was sent, and none of it is opened here. Returns the
 * bytes read, 0 at the end of the stream, -EAGAIN, or another errno of recvmsg(2), negative. */
ssize_t fdpass_read(int socket, void *buffer, size_t size, struct fdpass_fds *ret_fds);

/* Sends one whole message. to: the destination of an unconnected datagram socket, or NULL for a connected
 * one. data may be NULL when size is 0. On a stream socket a blocking caller's message is sent to its end; on
 * a non-blocking one that fills up after the first byte the rest is waited for, so that a message is never
 * sent in part. Returns 0, or -EINVAL (too many descriptors, size over UINT32_MAX), -EMSGSIZE (datagram too
 * large), -EAGAIN (nothing sent), -ETOOMANYREFS, -EPIPE, or another errno of sendmsg(2), negative. */
int fdpass_send(int socket,
                const struct sockaddr *to,
                socklen_t to_size,
                uint32_t operation,
                const void *data,
                size_t size,
                const int *fds,
                size_t n_fds);

/* Receives one whole message of at most size payload bytes.
 * ret_operation, ret_size: what was sent. ret_fds: as for fdpass_read(), NULL to receive none.
 * from, from_size: the sender's address, or NULL. Returns
 *   1 a message was received; 0 the stream ended before a message
 *   -EMSGSIZE the payload is larger than size: the message was consumed, its descriptors closed
 *   -EBADMSG the header lies about the size, or the stream ended inside a message
 *   -EAGAIN nothing there; any other errno of recvmsg(2), negative.
 * That descriptors were lost is not an error here: ret_fds->truncated says so. */
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
 * first of a batch when not all fit, so the indices that were not received are lost, and only those. */
struct fdpass_queue;

/* -ENOMEM. */
int fdpass_queue_new(struct fdpass_queue **ret);
void fdpass_queue_free(struct fdpass_queue *queue);
DEFINE_CLEANUP(struct fdpass_queue, fdpass_queue_free)

/* Takes all descriptors of fds, and keeps that some were lost; call it after each fdpass_read() that returned
 * bytes. Nothing happens when there are no descriptors and none was lost. -ENOMEM: they were closed, and
 * count as lost. */
int fdpass_queue_push(struct fdpass_queue *queue, struct fdpass_fds *fds);

/* The descriptor of the next frame that owns one, in the order of the frames in the stream. Returns a
 * descriptor that the caller owns, or -ENOLINK this one was lost on the way (the local limit was reached):
 * later ones are not affected -EBADMSG index and count do not follow those before, or no batch arrived: the
 * peer lies; give up the stream. */
int fdpass_queue_take(struct fdpass_queue *queue, unsigned index, unsigned count);
