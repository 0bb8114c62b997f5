/* How an exchange's answer leaves: whole, by way of libmicrohttpd, or as a stream (feed.h), past
 * it.
 *
 * Each of these ends the making of x->reply: headers that every answer has are added here. I/O
 * thread. MHD_NO: no answer can be given, the connection ends. */
#ifndef PHID_SERVER_HTTP_DELIVERY_H
#define PHID_SERVER_HTTP_DELIVERY_H

#include "server/http/exchange.h"

/* x->reply as it stands, or with the content type of its JSON body. */
enum MHD_Result delivery_send(struct exchange *x);
enum MHD_Result delivery_send_json(struct exchange *x);

/* The error becomes x->reply. */
enum MHD_Result delivery_send_error(struct exchange *x, const struct api_error *error);

/* Sends the head of a stream of events; the connection closes when there is no memory for it. */
void delivery_open_stream(struct exchange *x);

/* The client has its stream; libmicrohttpd gets to end its request with an answer too. */
enum MHD_Result delivery_send_nothing(struct exchange *x);

#endif
