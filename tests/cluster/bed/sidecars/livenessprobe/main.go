// Command livenessprobe answers /healthz with what a CSI driver says to Probe.
//
// It stands in for kubernetes-csi/livenessprobe, which the Go module proxy does not serve: the same flags, the same call over the
// same libraries, and nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
)

func main() {
	klog.InitFlags(nil)
	csiAddress := flag.String("csi-address", "/run/csi/socket", "socket of the CSI driver")
	timeout := flag.Duration("probe-timeout", time.Second, "of one Probe")
	healthPort := flag.String("health-port", "9808", "port that serves /healthz on all addresses")
	httpEndpoint := flag.String("http-endpoint", "", "address that serves /healthz, instead of --health-port")
	flag.Parse()
	address := *httpEndpoint
	if address == "" {
		address = net.JoinHostPort("", *healthPort)
	}
	if err := run(*csiAddress, address, *timeout); err != nil {
		klog.ErrorS(err, "giving up")
		os.Exit(1)
	}
}

func run(csiAddress, address string, timeout time.Duration) error {
	// Not served before the driver listens: until then the kubelet's own start-up delay counts.
	conn, err := connection.Connect(context.Background(), csiAddress, nil, connection.WithTimeout(0))
	if err != nil {
		return fmt.Errorf("connecting to the driver: %w", err)
	}
	defer conn.Close()
	klog.InfoS("serving", "address", address)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if err := probe(ctx, conn); err != nil {
			klog.ErrorS(err, "the driver is not well")
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return http.ListenAndServe(address, nil)
}

func probe(ctx context.Context, conn *grpc.ClientConn) error {
	ready, err := rpc.Probe(ctx, conn)
	if err != nil {
		return err
	}
	if !ready {
		return fmt.Errorf("it says that it is not ready")
	}
	return nil
}
