// Command snapshot-metadata-client asks a SnapshotMetadata service for the blocks of a VolumeSnapshot, as a backup does.
//
// Upstream has two such commands, snapshot-metadata-lister and -verifier, in modules that the Go module proxy does not serve. This
// one puts the same packages behind the same flags: the client is upstream's, and so is what judges the answer. Without devices
// the blocks are listed as JSON. With both, the blocks are copied from the source to the target, which are compared then: it fails
// unless they are equal.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/iterator"
	"k8s.io/client-go/rest"
)

func main() {
	var args iterator.Args
	flag.StringVar(&args.Namespace, "namespace", "", "of the VolumeSnapshots")
	flag.StringVar(&args.SnapshotName, "snapshot", "", "the VolumeSnapshot")
	flag.StringVar(&args.PrevSnapshotName, "previous-snapshot", "", "only what differs from this VolumeSnapshot")
	flag.Int64Var(&args.StartingOffset, "starting-offset", 0, "bytes to pass over")
	var most int
	flag.IntVar(&most, "max-results", 0, "blocks in a record; 0: the driver decides")
	source := flag.String("source-device-path", "", "a device that shows the VolumeSnapshot")
	target := flag.String("target-device-path", "", "a device to make equal to it")
	flag.Parse()
	args.MaxResults = int32(most)
	if err := run(args, *source, *target); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args iterator.Args, source, target string) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	if args.Clients, err = iterator.BuildClients(config); err != nil {
		return err
	}
	args.Emitter = &iterator.JSONEmitter{Writer: os.Stdout}
	if source != "" {
		verifier := &iterator.VerifierEmitter{}
		if verifier.SourceDevice, err = os.Open(source); err != nil {
			return err
		}
		defer verifier.SourceDevice.Close()
		if verifier.TargetDevice, err = os.OpenFile(target, os.O_RDWR, 0); err != nil {
			return err
		}
		defer verifier.TargetDevice.Close()
		args.Emitter = verifier
	}
	return iterator.GetSnapshotMetadata(context.Background(), args)
}
