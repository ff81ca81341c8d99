// Command node-driver-registrar tells a kubelet of a CSI driver on its node.
//
// It stands in for kubernetes-csi/node-driver-registrar, which the Go module proxy does not serve: the same flags, the same
// protocol (kubelet's plugin registration v1) over the same libraries, and nothing else.
//
// The kubelet watches the registration directory. It connects to the socket there, asks what the plugin is called and where it
// listens, talks to the driver itself, and tells us whether it took it. If it did not we exit, so that the pod's restart is
// another try.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// supportedVersions are those of CSI as the kubelet compares them.
var supportedVersions = []string{"1.0.0"}

type registrar struct {
	registration.UnimplementedRegistrationServer
	driver   string
	endpoint string
	refused  chan<- error
}

// GetInfo answers the kubelet's question who we are.
func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              r.driver,
		Endpoint:          r.endpoint,
		SupportedVersions: supportedVersions,
	}, nil
}

// NotifyRegistrationStatus takes the kubelet's verdict.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if status.PluginRegistered {
		klog.InfoS("the kubelet has registered the driver", "driver", r.driver)
	} else {
		select {
		case r.refused <- fmt.Errorf("the kubelet refused %s: %s", r.driver, status.Error):
		default: // One refusal is enough to end us.
		}
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	klog.InitFlags(nil)
	csiAddress := flag.String("csi-address", "/run/csi/socket", "socket of the CSI driver")
	kubeletPath := flag.String("kubelet-registration-path", "", "the same socket as the kubelet sees it")
	registrationDir := flag.String("plugin-registration-path", "/registration", "directory that the kubelet watches")
	httpEndpoint := flag.String("http-endpoint", "", "address that serves /healthz; nothing: none")
	timeout := flag.Duration("timeout", time.Second, "of one call to the driver")
	flag.Parse()
	if *kubeletPath == "" {
		klog.ErrorS(nil, "--kubelet-registration-path is required")
		os.Exit(1)
	}
	if err := run(*csiAddress, *kubeletPath, *registrationDir, *httpEndpoint, *timeout); err != nil {
		klog.ErrorS(err, "giving up")
		os.Exit(1)
	}
}

func run(csiAddress, kubeletPath, registrationDir, httpEndpoint string, timeout time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	driver, err := driverName(ctx, csiAddress, timeout)
	if err != nil {
		return fmt.Errorf("asking the driver for its name: %w", err)
	}
	socket := filepath.Join(registrationDir, driver+"-reg.sock")
	// What a killed predecessor left.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	ended := make(chan error, 3)
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &registrar{driver: driver, endpoint: kubeletPath, refused: ended})
	go func() { ended <- server.Serve(listener) }()
	if httpEndpoint != "" {
		go func() { ended <- http.ListenAndServe(httpEndpoint, health(socket)) }()
	}
	klog.InfoS("waiting for the kubelet", "driver", driver, "socket", socket)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		// Removes the socket, which unregisters the driver.
		server.GracefulStop()
		return nil
	}
}

// driverName waits until the driver answers.
func driverName(ctx context.Context, address string, timeout time.Duration) (string, error) {
	conn, err := connection.Connect(ctx, address, nil, connection.WithTimeout(0))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return rpc.GetDriverName(ctx, conn)
}

// health says whether the kubelet can still find us: its plugin directory may have been emptied.
func health(socket string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(socket); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
