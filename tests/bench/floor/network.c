#define _GNU_SOURCE
#include "floor.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Messages that are written one after another, and sent at once. */
struct batch {
	char bytes[4096];
	size_t length, message;
	int messages;
};

static struct nlmsghdr *header(struct batch *batch) { return (struct nlmsghdr *)(batch->bytes + batch->message); }

static void append(struct batch *batch, const void *bytes, size_t length)
{
	memcpy(batch->bytes + batch->length, bytes, length);
	batch->length += NLMSG_ALIGN(length);
	header(batch)->nlmsg_len = batch->length - batch->message;
}

static void begin(struct batch *batch, int type, int flags)
{
	struct nlmsghdr head = { .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags };
	batch->message = batch->length;
	batch->messages++;
	append(batch, &head, sizeof head);
}

static size_t attribute(struct batch *batch, int type, const void *bytes, size_t length)
{
	struct rtattr head = { .rta_type = type, .rta_len = RTA_LENGTH(length) };
	size_t place = batch->length;
	append(batch, &head, sizeof head);
	if (length)
		append(batch, bytes, length);
	return place;
}

static void end_of(struct batch *batch, size_t place)
{
	((struct rtattr *)(batch->bytes + place))->rta_len = batch->length - place;
}

static void link_message(struct batch *batch, int index, int flags)
{
	struct ifinfomsg link = { .ifi_index = index, .ifi_flags = flags, .ifi_change = flags };
	append(batch, &link, sizeof link);
}

/* Sends, and reads one answer for each message. */
static void send_all(int netlink, struct batch *batch, const char *what)
{
	char answer[16384];
	must(send(netlink, batch->bytes, batch->length, 0), what);
	while (batch->messages > 0) {
		int length = must(recv(netlink, answer, sizeof answer, 0), what);
		for (struct nlmsghdr *head = (void *)answer; NLMSG_OK(head, (unsigned)length); head = NLMSG_NEXT(head, length)) {
			int error = head->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(head))->error : 0;
			errno = -error;
			must(error, what);
			batch->messages--;
		}
	}
}

int netlink_open(void) { return must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "netlink"); }

void bridge_make(int netlink, const char *name)
{
	struct batch batch = { 0 };
	begin(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	link_message(&batch, 0, IFF_UP);
	attribute(&batch, IFLA_IFNAME, name, strlen(name) + 1);
	size_t info = attribute(&batch, IFLA_LINKINFO, NULL, 0);
	attribute(&batch, IFLA_INFO_KIND, "bridge", 7);
	end_of(&batch, info);
	send_all(netlink, &batch, "the bridge");
}

void link_delete(int netlink, const char *name)
{
	struct batch batch = { 0 };
	begin(&batch, RTM_DELLINK, 0);
	link_message(&batch, if_nametoindex(name), 0);
	send_all(netlink, &batch, "the end of a link");
}

void veth_make(int netlink, const char *bridge, const char *name, int namespace)
{
	struct batch batch = { 0 };
	int master = if_nametoindex(bridge), queues = 1;
	begin(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	link_message(&batch, 0, IFF_UP);
	attribute(&batch, IFLA_IFNAME, name, strlen(name) + 1);
	attribute(&batch, IFLA_MASTER, &master, sizeof master);
	attribute(&batch, IFLA_NUM_TX_QUEUES, &queues, sizeof queues);
	attribute(&batch, IFLA_NUM_RX_QUEUES, &queues, sizeof queues);
	size_t info = attribute(&batch, IFLA_LINKINFO, NULL, 0);
	attribute(&batch, IFLA_INFO_KIND, "veth", 5);
	size_t data = attribute(&batch, IFLA_INFO_DATA, NULL, 0);
	size_t peer = attribute(&batch, VETH_INFO_PEER, NULL, 0);
	/* Inside there is lo alone, so that this is the second link. */
	link_message(&batch, 2, 0);
	attribute(&batch, IFLA_IFNAME, "eth0", 5);
	attribute(&batch, IFLA_NET_NS_FD, &namespace, sizeof namespace);
	attribute(&batch, IFLA_NUM_TX_QUEUES, &queues, sizeof queues);
	attribute(&batch, IFLA_NUM_RX_QUEUES, &queues, sizeof queues);
	end_of(&batch, peer);
	end_of(&batch, data);
	end_of(&batch, info);
	send_all(netlink, &batch, "the veth");
}

void network_configure(int inside, int number)
{
	struct batch batch = { 0 };
	struct in_addr own = { htonl(0x0a590000 + 2 + number) }, gateway = { htonl(0x0a590001) };
	for (int index = 1; index <= 2; index++) {
		begin(&batch, RTM_NEWLINK, 0);
		link_message(&batch, index, IFF_UP);
	}
	struct ifaddrmsg address = { .ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = 2 };
	begin(&batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
	append(&batch, &address, sizeof address);
	attribute(&batch, IFA_LOCAL, &own, sizeof own);
	struct rtmsg route = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
			       .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST };
	begin(&batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
	append(&batch, &route, sizeof route);
	attribute(&batch, RTA_GATEWAY, &gateway, sizeof gateway);
	send_all(inside, &batch, "the pod's network");
}
